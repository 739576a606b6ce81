// SPDX-License-Identifier: MIT

//! The keywords of JSON Schema that runtime 3.10 writes, and similar ones, with
//! messages for users. Pure; a keyword that is unknown or malformed passes.
//!
//! Why not a crate: `jsonschema` 0.61 was measured against the 186 verdicts of
//! the runtime in `testdata/verdicts.jsonl`. It agrees with 184 of them once the
//! body of each command is closed by hand; it refuses an upload reference that
//! has only an id, which the runtime takes, and takes a file for a parameter that is
//! none. It compiles no schema with a dangling `$ref`, a malformed or a
//! future keyword, where this client must let the command pass, and knows neither
//! `nullable`, nor `minLength` of an array as the runtime means it. Its errors
//! would have to be rewritten one kind at a time for a message that names the
//! parameter and what is allowed, and the descriptions below stay in any case.
//! It brings 32 crates (itself included), and a library that does nothing else
//! grows from 0.6 to 12.7 MB (dev profile, stripped).

use std::cell::Cell;

use serde_json::{Map, Value};

use crate::platform::{commands::describe_kind, http::sanitize};

/// The most schemas that one check visits. Beyond it everything passes: nested
/// alternatives that refer to each other would otherwise take forever.
const MAX_STEPS: usize = 50_000;

/// The depth to which values and references are checked. Deeper ones pass.
const MAX_DEPTH: usize = 48;

/// The most of a value that a message quotes, in characters.
const MAX_QUOTED: usize = 80;

/// The most allowed values in a message.
const MAX_VALUES: usize = 12;

/// A violated rule.
#[derive(Debug)]
pub(super) struct Violation {
    /// The path below the parameter: `.points[2].x`.
    pub(super) place: String,
    /// `must be ...`
    pub(super) rule: String,
    /// The value, quoted, and what it is.
    pub(super) value: String,
}

impl Violation {
    fn new(value: &Value, rule: impl Into<String>) -> Self {
        Self {
            place: String::new(),
            rule: rule.into(),
            value: quote(value),
        }
    }

    fn below(mut self, step: &str) -> Self {
        // Paths of hostile documents do not grow without end.
        if self.place.len() < 200 {
            self.place.insert_str(0, step);
        }
        self
    }
}

/// A document, for following its references, and the steps that are left.
#[derive(Debug)]
pub(super) struct Validator<'a> {
    document: &'a Value,
    steps_left: Cell<usize>,
}

impl<'a> Validator<'a> {
    pub(super) fn new(document: &'a Value) -> Self {
        let steps_left = Cell::new(MAX_STEPS);
        Self {
            document,
            steps_left,
        }
    }

    /// Checks a value against a schema.
    pub(super) fn check(&self, schema: &Value, value: &Value) -> Result<(), Violation> {
        self.check_value(schema, value, 0)
    }

    /// Follows `$ref`. `None` if its target is missing.
    pub(super) fn resolve<'b>(&self, schema: &'b Value) -> Option<&'b Value>
    where
        'a: 'b,
    {
        let mut schema = schema;
        for _ in 0..MAX_DEPTH {
            match schema.get("$ref").and_then(Value::as_str) {
                Some(reference) => schema = self.resolve_pointer(reference)?,
                None => return Some(schema),
            }
        }
        None
    }

    fn resolve_pointer(&self, reference: &str) -> Option<&'a Value> {
        self.document.pointer(reference.strip_prefix('#')?)
    }

    /// Whether a schema is that of an uploaded file, or has it as one of its
    /// alternatives.
    pub(super) fn is_file(&self, schema: &Value) -> bool {
        self.accepts_file(schema, 0) == Some(true)
    }

    /// Whether a file may be given: unless the schema says it is anything else.
    pub(super) fn takes_file(&self, schema: &Value) -> bool {
        self.accepts_file(schema, 0) != Some(false)
    }

    /// `None` if the schema leaves it open.
    fn accepts_file(&self, schema: &Value, depth: usize) -> Option<bool> {
        if !self.spend_step(depth) {
            return None;
        }
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            return match self.resolve_pointer(reference) {
                Some(target) => self.accepts_file(target, depth + 1),
                None => reference
                    .ends_with("/ReactorUploadReference")
                    .then_some(true),
            };
        }
        if is_reference(schema) {
            return Some(true);
        }
        let other = ["type", "enum", "const"];
        if other.iter().any(|keyword| schema.get(keyword).is_some()) {
            return Some(false);
        }
        let mut verdict = None;
        for keyword in ["anyOf", "oneOf", "allOf"] {
            let parts = list(schema, keyword).iter();
            let verdicts: Vec<_> = parts.map(|s| self.accepts_file(s, depth + 1)).collect();
            if verdicts.contains(&Some(true)) {
                return Some(true);
            }
            if !verdicts.is_empty() && !verdicts.contains(&None) {
                verdict = Some(false);
            }
        }
        verdict
    }

    /// The kind of value that a schema takes, in a word or two.
    pub(super) fn describe(&self, schema: &Value) -> String {
        self.describe_at(schema, 0)
    }

    fn describe_at(&self, schema: &Value, depth: usize) -> String {
        let any = "anything".to_owned();
        let Some(schema) = self.resolve(schema).filter(|_| self.spend_step(depth)) else {
            return any;
        };
        if is_reference(schema) {
            return "file".to_owned();
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return join_values(values).replace(", ", " | ");
        }
        let names: Vec<_> = type_names(schema).collect();
        if !names.is_empty() {
            return sanitize(&names.join(" or "));
        }
        let mut alternatives = ["anyOf", "oneOf"].iter();
        let Some(parts) = alternatives.find_map(|keyword| schema.get(keyword)?.as_array()) else {
            return any;
        };
        let parts = parts.iter().take(MAX_VALUES);
        let words: Vec<_> = parts.map(|s| self.describe_at(s, depth + 1)).collect();
        sanitize(&words.join(" or "))
    }

    fn spend_step(&self, depth: usize) -> bool {
        let left = self.steps_left.get();
        self.steps_left.set(left.saturating_sub(1));
        left > 0 && depth <= MAX_DEPTH
    }

    fn check_value(&self, schema: &Value, value: &Value, depth: usize) -> Result<(), Violation> {
        if !self.spend_step(depth) {
            return Ok(());
        }
        match schema {
            Value::Object(_) => {}
            Value::Bool(false) => return Err(Violation::new(value, "must not be given")),
            _ => return Ok(()),
        }
        if is_reference(schema) {
            return check_reference(value);
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            match self.resolve_pointer(target) {
                Some(target) => self.check_value(target, value, depth + 1)?,
                // With what it refers to unknown, its neighbours say too little.
                None => return Ok(()),
            }
        }
        if value.is_null() && schema.get("nullable") == Some(&Value::Bool(true)) {
            return Ok(());
        }
        check_type(schema, value)?;
        check_enum(schema, value)?;
        match value {
            Value::Number(_) => check_range(schema, value)?,
            Value::String(text) => check_length(schema, value, text.chars().count(), "characters")?,
            Value::Array(items) => {
                check_length(schema, value, items.len(), "elements")?;
                self.check_items(schema, items, depth)?;
            }
            Value::Object(members) => {
                check_length(schema, value, members.len(), "members")?;
                self.check_members(schema, members, value, depth)?;
            }
            _ => {}
        }
        self.check_combined(schema, value, depth)
    }

    fn check_items(&self, schema: &Value, items: &[Value], depth: usize) -> Result<(), Violation> {
        let first = list(schema, "prefixItems");
        for (n, item) in items.iter().enumerate() {
            if let Some(schema) = first.get(n).or(schema.get("items")) {
                self.check_value(schema, item, depth + 1)
                    .map_err(|violation| violation.below(&format!("[{n}]")))?;
            }
        }
        Ok(())
    }

    fn check_members(
        &self,
        schema: &Value,
        members: &Map<String, Value>,
        value: &Value,
        depth: usize,
    ) -> Result<(), Violation> {
        for name in required(schema) {
            if !members.contains_key(name) {
                let rule = format!("must have a member \"{}\"", sanitize(name));
                return Err(Violation::new(value, rule));
            }
        }
        let properties = schema.get("properties");
        let others = schema
            .get("additionalProperties")
            .filter(|_| schema.get("patternProperties").is_none());
        for (name, member) in members {
            if let Some(schema) = properties.and_then(|list| list.get(name)).or(others) {
                self.check_value(schema, member, depth + 1)
                    .map_err(|violation| violation.below(&format!(".{name}")))?;
            }
        }
        Ok(())
    }

    fn check_combined(&self, schema: &Value, value: &Value, depth: usize) -> Result<(), Violation> {
        let check = |part| self.check_value(part, value, depth + 1);
        list(schema, "allOf").iter().try_for_each(check)?;
        // That exactly one of `oneOf` fits is left to the runtime.
        for keyword in ["anyOf", "oneOf"] {
            let parts = list(schema, keyword);
            let violations = parts
                .iter()
                .map_while(|part| Some((part, check(part).err()?)));
            let violations: Vec<_> = violations.collect();
            if !parts.is_empty() && violations.len() == parts.len() {
                return Err(self.no_alternative_fits(value, violations));
            }
        }
        Ok(())
    }

    /// The violation of a value that fits no alternative. That something may also
    /// be null does not hide what is wrong with it otherwise.
    fn no_alternative_fits(
        &self,
        value: &Value,
        violations: Vec<(&Value, Violation)>,
    ) -> Violation {
        let is_null = |schema: &Value| type_names(schema).eq(["null"]);
        let words: Vec<_> = violations
            .iter()
            .take(MAX_VALUES)
            .map(|(schema, _)| self.describe(schema))
            .collect();
        let mut real = violations
            .into_iter()
            .filter(|(schema, _)| !is_null(schema));
        match (real.next(), real.next()) {
            (Some((schema, violation)), None) if check_type(schema, value).is_ok() => violation,
            _ => Violation::new(value, sanitize(&format!("must be {}", words.join(" or ")))),
        }
    }
}

fn is_reference(schema: &Value) -> bool {
    schema.get("format").and_then(Value::as_str) == Some("reactor-upload-reference")
}

/// A file goes next to the arguments, but the runtime also takes a reference
/// among them, and reads nothing but its id.
fn check_reference(value: &Value) -> Result<(), Violation> {
    match value.get("upload_id") {
        Some(Value::String(_)) => Ok(()),
        _ => Err(Violation::new(value, "must be an uploaded file")),
    }
}

/// The elements of a keyword whose value is an array; none without it.
pub(super) fn list<'a>(schema: &'a Value, keyword: &str) -> &'a [Value] {
    let list = schema.get(keyword).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

/// The names of the members that an object must have.
pub(super) fn required(schema: &Value) -> impl Iterator<Item = &str> {
    list(schema, "required").iter().filter_map(Value::as_str)
}

pub(super) fn type_names(schema: &Value) -> impl Iterator<Item = &str> {
    let names = match schema.get("type") {
        Some(name @ Value::String(_)) => std::slice::from_ref(name),
        _ => list(schema, "type"),
    };
    names.iter().filter_map(Value::as_str)
}

fn check_type(schema: &Value, value: &Value) -> Result<(), Violation> {
    let fits = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        // Numbers travel as floating point, so 5.0 is an integer.
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => true,
    };
    let names: Vec<_> = type_names(schema).collect();
    if names.is_empty() || names.iter().any(|name| fits(name)) {
        return Ok(());
    }
    let rule = format!("must be of the type {}", names.join(" or "));
    Err(Violation::new(value, rule))
}

fn check_enum(schema: &Value, value: &Value) -> Result<(), Violation> {
    if let Some(allowed) = schema.get("const")
        && !is_equal(allowed, value, 0)
    {
        let rule = format!("must be {}", abbreviate(allowed));
        return Err(Violation::new(value, rule));
    }
    match schema.get("enum").and_then(Value::as_array) {
        Some(values) if !values.iter().any(|allowed| is_equal(allowed, value, 0)) => {
            let rule = format!("must be one of {}", join_values(values));
            Err(Violation::new(value, rule))
        }
        _ => Ok(()),
    }
}

/// Whether two values are equal in JSON Schema, where 1 is 1.0.
fn is_equal(a: &Value, b: &Value, depth: usize) -> bool {
    match (a, b) {
        _ if depth > MAX_DEPTH => true,
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_equal(a, b, depth + 1))
        }
        (Value::Object(a), Value::Object(b)) => {
            let equal = |(name, a)| b.get(name).is_some_and(|b| is_equal(a, b, depth + 1));
            a.len() == b.len() && a.iter().all(equal)
        }
        _ => a == b,
    }
}

/// The limits of a number.
#[derive(Debug, Default)]
pub(super) struct Limits {
    pub(super) least: Option<f64>,
    pub(super) above: Option<f64>,
    pub(super) most: Option<f64>,
    pub(super) below: Option<f64>,
}

impl Limits {
    pub(super) fn of(schema: &Value) -> Self {
        let limit = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
        // In OpenAPI 3.0 the exclusive ones were flags for the others.
        let flag = |keyword: &str| schema.get(keyword) == Some(&Value::Bool(true));
        let limits = |plain: &str, exclusive: &str| match flag(exclusive) {
            true => (None, limit(plain)),
            false => (limit(plain), limit(exclusive)),
        };
        let (least, above) = limits("minimum", "exclusiveMinimum");
        let (most, below) = limits("maximum", "exclusiveMaximum");
        Self {
            least,
            above,
            most,
            below,
        }
    }
}

fn check_range(schema: &Value, value: &Value) -> Result<(), Violation> {
    let Some(number) = value.as_f64() else {
        return Ok(());
    };
    let Limits {
        least,
        above,
        most,
        below,
    } = Limits::of(schema);
    let ok = least.is_none_or(|limit| number >= limit)
        && most.is_none_or(|limit| number <= limit)
        && above.is_none_or(|limit| number > limit)
        && below.is_none_or(|limit| number < limit);
    if ok {
        return Ok(());
    }
    let limits = join_limits(&[
        ("at least", least),
        ("more than", above),
        ("at most", most),
        ("less than", below),
    ]);
    Err(Violation::new(value, format!("must be {limits}")))
}

/// `at least 1 and at most 5`.
fn join_limits(limits: &[(&str, Option<f64>)]) -> String {
    let words = limits.iter();
    let words = words.filter_map(|(word, limit)| Some(format!("{word} {}", (*limit)?)));
    words.collect::<Vec<_>>().join(" and ")
}

/// The runtime writes `minLength` and `maxLength` for arrays and objects too,
/// and means the number of their parts.
fn check_length(schema: &Value, value: &Value, length: usize, unit: &str) -> Result<(), Violation> {
    let limit = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    let limits = |of: &str| {
        let own = match unit {
            "elements" => limit(&format!("{of}Items")),
            "members" => limit(&format!("{of}Properties")),
            _ => None,
        };
        own.or(limit(&format!("{of}Length")))
    };
    let (least, most) = (limits("min"), limits("max"));
    #[allow(clippy::cast_precision_loss, reason = "no length comes near 2^53")]
    let found = length as f64;
    if least.is_none_or(|least| found >= least) && most.is_none_or(|most| found <= most) {
        return Ok(());
    }
    let limits = join_limits(&[("at least", least), ("at most", most)]);
    let mut violation = Violation::new(value, format!("must have {limits} {unit}"));
    violation.value.push_str(&format!(" with {length} {unit}"));
    Err(violation)
}

fn join_values(values: &[Value]) -> String {
    let shown: Vec<_> = values.iter().take(MAX_VALUES).map(abbreviate).collect();
    match values.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A value and what it is: `"x" (a string)`.
fn quote(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        _ => format!("{} ({})", abbreviate(value), describe_kind(value)),
    }
}

fn abbreviate(value: &Value) -> String {
    let text = sanitize(&value.to_string());
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
