// SPDX-License-Identifier: MIT

//! The page of the error codes, from the table of `platform/error.rs`.

use std::fmt::Write as _;

use gst::{glib, glib::translate::IntoGlib, prelude::*};

use crate::{
    element::errors::glib_error,
    platform::{Code, Error},
};

const INTRO: &str = "\
# Error codes

<!-- Made by `UPDATE_REFERENCE=1 cargo test --lib reference` from the code. -->

An ERROR or WARNING message of an element has a structure `details`, and so has the property
`last-error`. `code` is one of the codes below or the model's own. The fields are described in
[Errors](../connection.md#errors); the last column has the domain and code of the `GError`.
*recoverable* says whether another attempt may succeed without a change.

| code | meaning | recoverable | GError |
|---|---|---|---|
";

pub fn page() -> String {
    let mut page = INTRO.to_owned();
    for code in Code::all() {
        let error = Error::api(code.clone(), "");
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | `{}` |",
            code.as_str(),
            code.meaning(),
            if error.recoverable() { "yes" } else { "no" },
            c_name(&glib_error(&error)),
        );
    }
    page
}

/// The name of an error's code in C, as in `GST_RESOURCE_ERROR_BUSY`.
fn c_name(error: &glib::Error) -> String {
    let name = |of: glib::Type, code: i32| {
        let class = glib::EnumClass::with_type(of).unwrap();
        class.value(code).unwrap().name().to_owned()
    };
    if let Some(code) = error.kind::<gst::ResourceError>() {
        name(gst::ResourceError::static_type(), code.into_glib())
    } else if let Some(code) = error.kind::<gst::StreamError>() {
        name(gst::StreamError::static_type(), code.into_glib())
    } else {
        let code = error.kind::<gst::CoreError>().unwrap();
        name(gst::CoreError::static_type(), code.into_glib())
    }
}
