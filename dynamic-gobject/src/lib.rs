// SPDX-License-Identifier: MIT

//! GObject classes and enumerations that are made at run time: the parameters of
//! a model's command are not known before a session tells them.
//!
//! glib-rs makes one class of each Rust type, with properties that are a constant
//! of that type; its statics are not generic, so const generics do not help
//! either. What is missing is three calls of GObject's C interface, which are
//! here, behind functions that check what these calls take for granted. There is
//! nothing else in this crate, so that all others can forbid unsafe code.
//!
//! A type is never freed, as GObject's static types are not: the caller limits
//! their number.

use std::ffi::{CString, c_int};

use glib::{
    ParamFlags, ParamSpec, Type,
    ffi::gpointer,
    gobject_ffi,
    object::ObjectType,
    translate::{FromGlib, IntoGlib, IntoGlibPtr, from_glib_none},
};

/// Registers a subclass of `T` that has these properties as well. `T`'s own
/// `set_property` and `property` are called for them.
///
/// Returns `None` if the name is none for a type (letters, digits, `-`, `_` and
/// `+`, at least 3 characters, a letter or `_` first) or is taken, if `T` is final
/// or has no such functions, or if a property belongs to a class already or is
/// there twice.
pub fn register_subclass<T: ObjectType>(name: &str, properties: Vec<ParamSpec>) -> Option<Type> {
    let name = free_type_name(name)?;
    let mut names: Vec<_> = properties.iter().map(|spec| spec.name()).collect();
    names.sort_unstable();
    let is_unique = names.windows(2).all(|pair| pair[0] != pair[1]);
    // A specification is part of one class: installing it writes to it.
    let is_free = |spec: &ParamSpec| spec.owner_type() == Type::INVALID;
    if !is_unique || !properties.iter().all(is_free) {
        return None;
    }
    let parent = T::static_type();
    if !handles_properties(parent) {
        return None;
    }
    let mut query = gobject_ffi::GTypeQuery {
        type_: 0,
        type_name: std::ptr::null(),
        class_size: 0,
        instance_size: 0,
    };
    // SAFETY: `query` is a structure for this call to write to.
    unsafe { gobject_ffi::g_type_query(parent.into_glib(), &mut query) };
    if query.type_ == 0 {
        return None;
    }
    // GObject numbers properties from 1. It may keep the pointer to the list, and
    // initializes the class when it likes: neither is ever freed.
    let mut list = vec![std::ptr::null_mut()];
    list.extend(
        properties
            .into_iter()
            .map(IntoGlibPtr::<*mut _>::into_glib_ptr),
    );
    let list: &'static mut Vec<_> = Box::leak(Box::new(list));
    let info = gobject_ffi::GTypeInfo {
        class_size: u16::try_from(query.class_size).ok()?,
        base_init: None,
        base_finalize: None,
        class_init: Some(install_properties),
        class_finalize: None,
        class_data: std::ptr::from_mut(list) as gpointer,
        instance_size: u16::try_from(query.instance_size).ok()?,
        n_preallocs: 0,
        instance_init: None,
        value_table: std::ptr::null(),
    };
    // SAFETY: the name is a free one and ends with a NUL; GObject copies it and
    // `info`. The class and its instances are those of the parent, in size as well,
    // so that the parent's functions, which they inherit, find what they expect.
    let type_ =
        unsafe { gobject_ffi::g_type_register_static(parent.into_glib(), name.as_ptr(), &info, 0) };
    if type_ == 0 {
        return None;
    }
    // SAFETY: a registered type of GObject's. The reference is kept for ever, so
    // that the class is initialized once.
    let class = unsafe { gobject_ffi::g_type_class_ref(type_) };
    // SAFETY: `type_` is a registered type.
    let type_ = unsafe { Type::from_glib(type_) };
    (!class.is_null()).then_some(type_)
}

/// Whether a class has the functions that set and get properties.
fn handles_properties(type_: Type) -> bool {
    // SAFETY: a registered type of GObject's, whose class this makes.
    let class = unsafe { gobject_ffi::g_type_class_ref(type_.into_glib()) };
    // SAFETY: the reference is never released, so the class stays.
    let class = unsafe { class.cast::<gobject_ffi::GObjectClass>().as_ref() };
    class.is_some_and(|class| class.set_property.is_some() && class.get_property.is_some())
}

/// GObject's `class_init` of such a class; `list` is that of its properties.
unsafe extern "C" fn install_properties(class: gpointer, list: gpointer) {
    // SAFETY: it is the list that `register_subclass` leaked for this class, whose
    // initialization GObject runs once.
    let list = unsafe { &mut *list.cast::<Vec<*mut gobject_ffi::GParamSpec>>() };
    // SAFETY: GObject gives the class that it is initializing, which has a parent.
    let parent = unsafe { gobject_ffi::g_type_class_peek_parent(class) };
    // SAFETY: the parent is a subclass of GObject, and stays as long as this class.
    let parent = unsafe { &*parent.cast::<gobject_ffi::GObjectClass>() };
    let class = class.cast::<gobject_ffi::GObjectClass>();
    // SAFETY: nobody else has a class while it is initialized. GObject passes all
    // functions on to a subclass but for these two.
    let own = unsafe { &mut *class };
    own.set_property = parent.set_property;
    own.get_property = parent.get_property;
    // Number 0 alone is no property.
    if let Ok(count @ 2..) = u32::try_from(list.len()) {
        // SAFETY: it has no subclass yet; the list has `count` specifications but for
        // the first, which belong to no other class and are never freed.
        unsafe { gobject_ffi::g_object_class_install_properties(class, count, list.as_mut_ptr()) };
    }
}

/// Registers an enumeration of these texts, whose values are 0, 1, 2... A text is
/// the name and the nick of its value. A string property's value can be
/// converted to it, as programs in scripting languages set it.
///
/// Returns `None` if the name is none for a type (see [`register_subclass`]) or is
/// taken, if there is no text, or if one has a NUL or is there twice.
pub fn register_enum(name: &str, texts: &[String]) -> Option<Type> {
    let name = free_type_name(name)?;
    let is_repeated = |(n, text): (usize, &String)| texts[..n].contains(text);
    if texts.is_empty() || texts.iter().enumerate().any(is_repeated) {
        return None;
    }
    let texts: Result<Vec<_>, _> = texts
        .iter()
        .map(|text| CString::new(text.as_str()))
        .collect();
    let mut values = Vec::new();
    for (value, text) in texts.ok()?.into_iter().enumerate() {
        let text = text.into_raw().cast_const();
        values.push(gobject_ffi::GEnumValue {
            value: c_int::try_from(value).ok()?,
            value_name: text,
            value_nick: text,
        });
    }
    values.push(gobject_ffi::GEnumValue {
        value: 0,
        value_name: std::ptr::null(),
        value_nick: std::ptr::null(),
    });
    let values: &'static [_] = Vec::leak(values);
    // SAFETY: the name is a free one and ends with a NUL. The values end with an empty
    // one; neither they nor their texts are ever freed.
    let type_ = unsafe { gobject_ffi::g_enum_register_static(name.as_ptr(), values.as_ptr()) };
    if type_ == 0 {
        return None;
    }
    // SAFETY: both are registered types, and the function is one for values of them.
    unsafe {
        gobject_ffi::g_value_register_transform_func(
            Type::STRING.into_glib(),
            type_,
            Some(parse_enum),
        );
    }
    // SAFETY: `type_` is a registered type.
    Some(unsafe { Type::from_glib(type_) })
}

/// Converts a string to the value of an enumeration with this nick; to the first
/// one if there is none, as GObject has no way to refuse.
unsafe extern "C" fn parse_enum(from: *const gobject_ffi::GValue, to: *mut gobject_ffi::GValue) {
    // SAFETY: GObject calls it with two initialized values, a string first.
    let from = unsafe { &*from.cast::<glib::Value>() };
    // SAFETY: as above, the value of an enumeration.
    let to = unsafe { &mut *to.cast::<glib::Value>() };
    let text = from.get::<Option<String>>().ok().flatten();
    let class = glib::EnumClass::with_type(to.type_());
    if let (Some(text), Some(class)) = (text, class)
        && let Some(value) = class.to_value_by_nick(&text)
    {
        *to = value;
    }
}

/// The specification of a property that has a value of this enumeration, which
/// [`register_enum`] has made.
///
/// Returns `None` if `enum_type` is no enumeration or has no such value, or if the
/// name is none for a property.
pub fn enum_property(
    name: &str,
    nick: &str,
    blurb: &str,
    enum_type: Type,
    default: i32,
    flags: ParamFlags,
) -> Option<ParamSpec> {
    let class = glib::EnumClass::with_type(enum_type)?;
    class.value(default)?;
    let mut bytes = name.bytes();
    let is_valid = bytes.next()?.is_ascii_alphabetic()
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !is_valid {
        return None;
    }
    let nick = CString::new(nick).ok()?;
    let blurb = CString::new(blurb).ok()?;
    let name = CString::new(name).ok()?;
    // SAFETY: texts that end with a NUL, which GObject copies, and an enumeration that
    // has the default.
    let spec = unsafe {
        gobject_ffi::g_param_spec_enum(
            name.as_ptr(),
            nick.as_ptr(),
            blurb.as_ptr(),
            enum_type.into_glib(),
            default,
            flags.into_glib(),
        )
    };
    if spec.is_null() {
        return None;
    }
    // SAFETY: a new specification with a floating reference, which this takes.
    Some(unsafe { from_glib_none(spec) })
}

/// The name for GObject, if a type may have it and none has.
fn free_type_name(name: &str) -> Option<CString> {
    let mut bytes = name.bytes();
    let first = bytes.next()?;
    let is_valid = name.len() >= 3
        && (first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'+'));
    let is_free = is_valid && Type::from_name(name).is_none();
    is_free.then(|| CString::new(name).ok()).flatten()
}

#[cfg(test)]
mod tests;
