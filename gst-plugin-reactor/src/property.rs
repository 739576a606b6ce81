// SPDX-License-Identifier: MIT

//! Settings that are GObject properties: [`settings!`] declares a struct, the
//! defaults of its fields, and one [`Property`] for each, which makes the
//! parameter specification, get and set, inheritance and conflicts. Called by
//! the application's threads; knows no element and no session.

use gst::{
    glib::{
        self, ParamFlags,
        translate::{FromGlib, IntoGlib},
        value::FromValue,
    },
    prelude::*,
};

/// May be changed in NULL and READY.
pub const READY: ParamFlags = ParamFlags::READWRITE.union(gst::PARAM_FLAG_MUTABLE_READY);
/// May be changed in every state.
pub const PLAYING: ParamFlags = ParamFlags::READWRITE.union(gst::PARAM_FLAG_MUTABLE_PLAYING);

/// What is known of a property beside its type and default.
#[derive(Debug)]
pub struct Info {
    pub name: &'static str,
    pub nick: &'static str,
    pub blurb: &'static str,
    pub flags: ParamFlags,
    /// Of a number, both ends included.
    pub range: (u32, u32),
    /// What a text that is not set reads as.
    pub unset: Option<&'static str>,
    /// Whether an element whose settings name no server takes the value from
    /// another element of its pipeline.
    pub inherited: bool,
    /// Whether the value of the element that starts a session counts, and that of one
    /// which joins it later has no effect.
    pub of_session: bool,
}

/// What most properties have in common.
pub const INFO: Info = Info {
    name: "",
    nick: "",
    blurb: "",
    flags: READY,
    range: (0, u32::MAX),
    unset: None,
    inherited: true,
    of_session: false,
};

/// A property whose value is a field of the settings `S`.
#[derive(Debug)]
pub struct Property<S> {
    pub info: Info,
    pub spec: fn(&Info) -> glib::ParamSpec,
    pub value: fn(&S, &Info) -> glib::Value,
    /// Takes a value whose type GObject has checked.
    pub set: fn(&mut S, &glib::Value),
    /// Takes the value of the other settings, where these have the default.
    pub inherit: fn(&mut S, &S),
    /// Whether the second settings have a value of their own, other than the first.
    pub differs: fn(&S, &S) -> bool,
    /// Whether an element with the second settings may not join a session that
    /// was started with the first.
    pub conflicts: fn(&S, &S) -> bool,
}

/// Declares a settings struct and its table, the constant `PROPERTIES`. An
/// entry is `field: type = default, name, nick, blurb`, then what differs from
/// [`INFO`], and `=> CLOSURE` where elements of one session may not differ
/// (see [`Property::conflicts`]).
macro_rules! settings {
    (
        $(#[$attribute:meta])* pub struct $name:ident {
            $($(#[$doc:meta])* $field:ident: $type:ty = $default:expr,
                $property:expr, $nick:expr, $blurb:expr $(, $key:ident: $value:expr)*
                $(=> $conflicts:expr)?;)*
        }
    ) => {
        $(#[$attribute])*
        pub struct $name { $($(#[$doc])* pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $name {
            pub const PROPERTIES: &'static [$crate::property::Property<Self>] = &[
                $($crate::property::Property {
                    info: $crate::property::Info {
                        name: $property,
                        nick: $nick,
                        blurb: $blurb,
                        $($key: $value,)*
                        ..$crate::property::INFO
                    },
                    spec: |info| {
                        let default: $type = $default;
                        $crate::property::Field::spec(&default, info)
                    },
                    value: |settings, info| {
                        $crate::property::Field::value(&settings.$field, info)
                    },
                    set: |settings, value| {
                        $crate::property::Field::set(&mut settings.$field, value)
                    },
                    inherit: |own, other| {
                        let default: $type = $default;
                        if own.$field == default {
                            own.$field = other.$field.clone();
                        }
                    },
                    differs: |own, other| {
                        let default: $type = $default;
                        other.$field != default && other.$field != own.$field
                    },
                    conflicts: $crate::property::settings!(@conflicts $($conflicts)?),
                },)*
            ];
        }
    };
    (@conflicts) => { |_, _| false };
    (@conflicts $conflicts:expr) => { $conflicts };
}
pub(crate) use settings;

/// The specifications of a table.
pub fn specs<S>(table: &[Property<S>]) -> Vec<glib::ParamSpec> {
    table.iter().map(|row| (row.spec)(&row.info)).collect()
}

/// The property of this name.
pub fn find<S>(table: &'static [Property<S>], name: &str) -> Option<&'static Property<S>> {
    table.iter().find(|row| row.info.name == name)
}

/// A type of field that a property can have; by default a text that cannot be
/// read.
pub trait Field {
    /// The specification of a property with this default.
    fn spec(&self, info: &Info) -> glib::ParamSpec {
        let spec = glib::ParamSpecString::builder(info.name).nick(info.nick);
        let spec = spec.blurb(info.blurb).flags(info.flags);
        spec.default_value(info.unset).build()
    }

    fn value(&self, _info: &Info) -> glib::Value {
        None::<String>.to_value()
    }

    fn set(&mut self, value: &glib::Value);
}

/// The text of a string property; `None` for an empty one.
pub fn text(value: &glib::Value) -> Option<String> {
    // GObject has checked the type.
    let text = value.get::<Option<String>>().unwrap_or_default();
    text.filter(|text| !text.is_empty())
}

impl Field for Option<String> {
    fn value(&self, info: &Info) -> glib::Value {
        self.as_deref().or(info.unset).to_value()
    }

    fn set(&mut self, value: &glib::Value) {
        *self = text(value);
    }
}

/// A type of field that is a GValue as it is.
pub trait Scalar: Copy + Default + ToValue + for<'a> FromValue<'a> {
    fn spec(self, info: &Info) -> glib::ParamSpec;
}

impl<T: Scalar> Field for T {
    fn spec(&self, info: &Info) -> glib::ParamSpec {
        Scalar::spec(*self, info)
    }

    fn value(&self, _info: &Info) -> glib::Value {
        self.to_value()
    }

    fn set(&mut self, value: &glib::Value) {
        *self = value.get().unwrap_or_default();
    }
}

impl Scalar for bool {
    fn spec(self, info: &Info) -> glib::ParamSpec {
        let spec = glib::ParamSpecBoolean::builder(info.name).nick(info.nick);
        let spec = spec.blurb(info.blurb).flags(info.flags);
        spec.default_value(self).build()
    }
}

impl Scalar for u32 {
    fn spec(self, info: &Info) -> glib::ParamSpec {
        let spec = glib::ParamSpecUInt::builder(info.name).nick(info.nick);
        let spec = spec.blurb(info.blurb).flags(info.flags);
        let spec = spec.minimum(info.range.0).maximum(info.range.1);
        spec.default_value(self).build()
    }
}

/// Of any size; the row has no range.
impl Scalar for u64 {
    fn spec(self, info: &Info) -> glib::ParamSpec {
        let spec = glib::ParamSpecUInt64::builder(info.name).nick(info.nick);
        let spec = spec.blurb(info.blurb).flags(info.flags);
        spec.default_value(self).build()
    }
}

impl Scalar for f64 {
    fn spec(self, info: &Info) -> glib::ParamSpec {
        let spec = glib::ParamSpecDouble::builder(info.name).nick(info.nick);
        let spec = spec.blurb(info.blurb).flags(info.flags);
        let spec = spec
            .minimum(info.range.0.into())
            .maximum(info.range.1.into());
        spec.default_value(self).build()
    }
}

/// An enum of glib's that is a field.
pub trait EnumField: StaticType + FromGlib<i32> + IntoGlib<GlibType = i32> {}

impl<T> Scalar for T
where
    T: EnumField + Copy + Default + ToValue + for<'a> FromValue<'a>,
{
    fn spec(self, info: &Info) -> glib::ParamSpec {
        let spec = glib::ParamSpecEnum::builder_with_default(info.name, self).nick(info.nick);
        spec.blurb(info.blurb).flags(info.flags).build()
    }
}
