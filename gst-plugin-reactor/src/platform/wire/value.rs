// SPDX-License-Identifier: MIT

//! JSON values and `google.protobuf.Struct`, which carries every number as an
//! IEEE double. The server puts v0 messages through a `Struct` as well, so the
//! numbers of both versions are alike. Pure functions; they never round a number.

use prost_types::{ListValue, Struct, value::Kind};
use serde_json::{Map, Number, Value};

use crate::platform::{Code, Error};

/// The largest magnitude up to which a double holds every integer.
const EXACT: u64 = 1 << 53;

/// How deep values may be nested. Protobuf decoders give up at 100 nested
/// messages, and an object inside an object takes three: runtime 3.10 cannot
/// read a command with 34 levels of them.
const MAX_DEPTH: usize = 32;

/// Refuses values that would arrive changed.
pub fn check(data: &Map<String, Value>) -> Result<(), Error> {
    for (name, value) in data {
        let mut left = vec![(1, value)];
        while let Some((depth, value)) = left.pop() {
            if depth > MAX_DEPTH {
                return Err(refused(
                    name,
                    &format!("is nested deeper than {MAX_DEPTH} levels"),
                ));
            }
            match value {
                Value::Number(number) if !exact(number) => {
                    return Err(refused(
                        name,
                        "has an integer beyond 2^53; numbers travel as 64 bit floating \
                         point, which would change it",
                    ));
                }
                Value::Array(items) => left.extend(items.iter().map(|item| (depth + 1, item))),
                Value::Object(map) => left.extend(map.values().map(|item| (depth + 1, item))),
                _ => {}
            }
        }
    }
    Ok(())
}

fn refused(name: &str, why: &str) -> Error {
    Error::gpu(Code::BadRequest, format!("parameter \"{name}\" {why}"))
}

fn exact(number: &Number) -> bool {
    if let Some(number) = number.as_u64() {
        number <= EXACT
    } else if let Some(number) = number.as_i64() {
        number.unsigned_abs() <= EXACT
    } else {
        number.as_f64().is_some_and(f64::is_finite)
    }
}

/// A JSON object as a `Struct`. To be called with what [`check`] let through.
pub fn to_struct(map: &Map<String, Value>) -> Struct {
    Struct {
        fields: map
            .iter()
            .map(|(key, value)| (key.clone(), to_proto(value)))
            .collect(),
    }
}

fn to_proto(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        // `check` has made sure that the number is finite.
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(to_proto).collect(),
        }),
        Value::Object(map) => Kind::StructValue(to_struct(map)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// A `Struct` as a JSON object.
pub fn from_struct(value: Option<Struct>) -> Value {
    let fields = value.unwrap_or_default().fields;
    let map: Map<_, _> = fields
        .into_iter()
        .map(|(key, value)| (key, from_proto(value)))
        .collect();
    Value::Object(map)
}

fn from_proto(value: prost_types::Value) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::NumberValue(number)) => from_double(number),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(from_proto).collect(),
        Some(Kind::StructValue(value)) => from_struct(Some(value)),
    }
}

/// An integral double is an integer again; JSON has nothing for what is not
/// finite, so that is null.
fn from_double(number: f64) -> Value {
    let limit = EXACT as f64;
    if number.fract() == 0.0 && number.abs() <= limit {
        Value::from(number as i64)
    } else {
        Number::from_f64(number).map_or(Value::Null, Value::Number)
    }
}

/// Makes integers of the integral doubles in a JSON value.
pub fn narrow(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(number) = number.as_f64() {
                *value = from_double(number);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(narrow),
        Value::Object(map) => map.values_mut().for_each(narrow),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            _ => panic!("not an object"),
        }
    }

    fn round_trip(value: Value) -> Value {
        let map = object(value);
        check(&map).unwrap();
        let bytes = to_struct(&map).encode_to_vec();
        from_struct(Some(Struct::decode(&bytes[..]).unwrap()))
    }

    #[test]
    fn json_through_struct_is_unchanged() {
        let value = json!({
            "n": 125, "f": 1.5, "neg": -3, "s": "é", "b": true, "z": null, "e": "",
            "l": [1, "a", {"k": 2}, [], {}], "o": {"p": 0, "": {"q": false}},
            "max": 9_007_199_254_740_992_u64, "min": -9_007_199_254_740_992_i64,
            "large": 1e300, "small": 5e-324,
        });
        assert_eq!(round_trip(value.clone()), value);
        assert_eq!(round_trip(json!({})), json!({}));
    }

    #[test]
    fn integral_double_becomes_integer() {
        let value = json!({"a": 2.0, "b": -0.0, "c": [1e15], "d": 1e16});
        let narrowed = json!({"a": 2, "b": 0, "c": [1_000_000_000_000_000_i64], "d": 1e16});
        assert_eq!(round_trip(value.clone()), narrowed);
        let mut value = value;
        narrow(&mut value);
        assert_eq!(value, narrowed);
    }

    #[test]
    fn non_finite_double_becomes_null() {
        assert_eq!(from_double(f64::NAN), Value::Null);
        assert_eq!(from_double(f64::INFINITY), Value::Null);
        assert_eq!(from_proto(prost_types::Value { kind: None }), Value::Null);
        assert_eq!(from_struct(None), json!({}));
    }

    #[test]
    fn integer_beyond_double_precision_is_refused() {
        for value in [
            json!({"seed": 9_007_199_254_740_993_u64}),
            json!({"seed": -9_007_199_254_740_993_i64}),
            json!({"seed": u64::MAX}),
            json!({"seed": [{"x": i64::MIN}]}),
        ] {
            let error = check(&object(value)).unwrap_err();
            assert_eq!(error.code, Code::BadRequest);
            assert!(error.message.contains("\"seed\""), "{error}");
            assert!(error.message.contains("2^53"), "{error}");
        }
    }

    fn nested(depth: usize, wrap: impl Fn(Value) -> Value) -> Value {
        let innermost = json!(1);
        let value = (1..depth).fold(innermost, |value, _| wrap(value));
        json!({ "x": value })
    }

    #[test]
    fn value_nested_too_deep_is_refused() {
        let wraps: [fn(Value) -> Value; 2] =
            [|value| json!({ "o": value }), |value| json!([value])];
        for wrap in wraps {
            let deepest = nested(MAX_DEPTH, wrap);
            assert_eq!(round_trip(deepest.clone()), deepest);
            let error = check(&object(nested(MAX_DEPTH + 1, wrap))).unwrap_err();
            assert_eq!(error.code, Code::BadRequest);
        }
    }
}
