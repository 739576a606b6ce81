// SPDX-License-Identifier: MIT

use serde_json::json;

use super::*;
use crate::platform::wire::FileRef;

const PLAYGROUND: &str = include_str!("testdata/playground.json");

/// The schema of a model with one command for each kind of type there is, as
/// runtime 3.10 renders it.
const TYPES: &str = include_str!("testdata/types.json");

/// What the runtime says to commands of that model: the name, the arguments,
/// the parameters that were uploaded, and whether it took them.
const VERDICTS: &str = include_str!("testdata/verdicts.jsonl");

fn schema(text: &str) -> Schema {
    Schema::parse(&serde_json::from_str(text).unwrap()).unwrap()
}

/// A model with one command, `c`, with these parameters.
fn with(properties: Value) -> Schema {
    with_body(json!({"type": "object", "properties": properties}))
}

fn with_body(body: Value) -> Schema {
    let content = json!({"application/json": {"schema": body}});
    let document = json!({
        "paths": {"/events/c": {"post": {"requestBody": {"content": content}}}},
        "components": {"schemas": {
            "Node": {"type": "object", "properties": {
                "next": {"$ref": "#/components/schemas/Node"}, "n": {"type": "integer"},
            }},
            "Loop": {"$ref": "#/components/schemas/Loop"},
            "Twice": {"anyOf": [
                {"$ref": "#/components/schemas/Twice"}, {"$ref": "#/components/schemas/Twice"},
            ]},
            "a/b~c": {"type": "string"},
        }},
    });
    Schema::parse(&document).unwrap()
}

fn file() -> FileRef {
    FileRef {
        upload_id: "u".into(),
        name: "cat.png".into(),
        mime_type: "image/png".into(),
        size: 3,
    }
}

fn try_files(schema: &Schema, name: &str, data: Value, files: &[&str]) -> Result<(), String> {
    let Value::Object(data) = data else {
        panic!("not an object")
    };
    let uploads = files.iter().map(|f| ((*f).to_owned(), file())).collect();
    schema.check(name, &data, &uploads).map_err(|e| {
        assert_eq!(e.code, Code::Other("invalid_command".into()));
        e.message
    })
}

fn check(schema: &Schema, name: &str, data: Value) -> Result<(), String> {
    try_files(schema, name, data, &[])
}

/// The verdict on `c` with the one parameter `p`.
fn one(rules: Value, value: Value) -> Result<(), String> {
    check(&with(json!({ "p": rules })), "c", json!({ "p": value }))
}

#[test]
fn schema_of_playground_lists_commands() {
    let schema = schema(PLAYGROUND);
    let names: Vec<_> = schema.commands().collect();
    let expected = [
        "echo",
        "fail",
        "set_brightness",
        "set_image",
        "set_paused",
        "set_prompt",
        "set_resolution",
    ];
    assert_eq!(names, expected);
    assert_eq!(schema.parameters("fail"), Some(vec![]));
    assert_eq!(schema.parameters("nothing"), None);
    let image = &schema.parameters("set_image").unwrap()[0];
    assert!(image.is_file() && image.required);
    assert_eq!(
        (image.name.as_str(), image.kind.as_str()),
        ("image", "file")
    );
    let brightness = &schema.parameters("set_brightness").unwrap()[0];
    assert!(!brightness.is_file() && !brightness.required);
    assert_eq!(brightness.kind, "number");
}

#[test]
fn command_allowed_by_schema_passes() {
    let schema = schema(PLAYGROUND);
    let good = [
        ("set_prompt", json!({"prompt": "hi"})),
        ("set_prompt", json!({"prompt": "é".repeat(500)})),
        ("set_resolution", json!({"width": 640.0, "height": 360})),
        ("set_brightness", json!({})),
        ("set_brightness", json!({"brightness": 1})),
        ("set_paused", json!({"paused": true})),
        ("fail", json!({})),
    ];
    for (name, data) in good {
        check(&schema, name, data).unwrap();
    }
    try_files(&schema, "set_image", json!({}), &["image"]).unwrap();
    // The runtime takes a reference among the arguments as well.
    check(&schema, "set_image", json!({"image": {"upload_id": "u"}})).unwrap();
}

#[test]
fn command_refused_by_schema_names_what_is_allowed() {
    let schema = schema(PLAYGROUND);
    for (name, data, expected) in [
        (
            "set_resolution",
            json!({"width": 50, "height": 360}),
            "command \"set_resolution\": parameter \"width\" must be at least 160 and at most 1920, \
             but is 50 (an integer); its parameters are height (integer, required), \
             width (integer, required)",
        ),
        (
            "set_brightness",
            json!({"brightness": "bright"}),
            "command \"set_brightness\": parameter \"brightness\" must be of the type number, but is \
             \"bright\" (a string); its parameters are brightness (number)",
        ),
        (
            "set_prompt",
            json!({"promt": "x", "prompt": "x"}),
            "command \"set_prompt\": there is no parameter \"promt\"; \
             its parameters are prompt (string, required)",
        ),
        (
            "set_prompt",
            json!({}),
            "command \"set_prompt\": the parameter \"prompt\" is missing; \
             its parameters are prompt (string, required)",
        ),
        (
            "set_image",
            json!({}),
            "command \"set_image\": the file \"image\" is missing; \
             its parameters are image (file, required)",
        ),
        (
            "set_image",
            json!({"image": "cat.png"}),
            "command \"set_image\": parameter \"image\" must be an uploaded file, but is \
             \"cat.png\" (a string); its parameters are image (file, required)",
        ),
        (
            "fail",
            json!({"x": 1}),
            "command \"fail\": there is no parameter \"x\"; the command has no parameters",
        ),
    ] {
        assert_eq!(check(&schema, name, data).unwrap_err(), expected);
    }
    let long = check(&schema, "set_prompt", json!({"prompt": "x".repeat(501)})).unwrap_err();
    assert!(long.contains("must have at most 500 characters"), "{long}");
    assert!(
        long.contains("xxx… (a string) with 501 characters"),
        "{long}"
    );
    assert!(long.len() < 300, "{long}");
}

#[test]
fn file_for_other_parameter_is_refused() {
    let schema = schema(PLAYGROUND);
    let both = try_files(
        &schema,
        "set_image",
        json!({"image": {"upload_id": "u"}}),
        &["image"],
    );
    assert!(both.unwrap_err().contains("given twice"));
    let text = try_files(&schema, "set_prompt", json!({}), &["prompt"]).unwrap_err();
    assert!(text.contains("takes no file but: string"), "{text}");
    let unknown = try_files(&schema, "fail", json!({}), &["x"]).unwrap_err();
    assert!(unknown.contains("there is no parameter \"x\""));
    // Where the schema leaves it open, or names the reference as one choice.
    let reference = json!({"format": "reactor-upload-reference"});
    for rules in [
        json!({}),
        json!(true),
        reference.clone(),
        json!({"anyOf": [reference, {"type": "null"}]}),
        json!({"allOf": [{"description": "x"}]}),
        json!({"$ref": "#/components/schemas/gone"}),
        json!({"$ref": "#/elsewhere/ReactorUploadReference"}),
    ] {
        try_files(&with(json!({ "p": rules })), "c", json!({}), &["p"]).unwrap();
    }
    for rules in [
        json!({"enum": [1]}),
        json!({"type": ["string", "null"]}),
        json!({"oneOf": [{"type": "string"}, {"type": "null"}]}),
    ] {
        try_files(&with(json!({ "p": rules })), "c", json!({}), &["p"]).unwrap_err();
    }
}

#[test]
fn unknown_command_lists_closest_names_first() {
    let schema = schema(PLAYGROUND);
    let error = check(&schema, "setPromt", json!({})).unwrap_err();
    assert_eq!(
        error,
        "the model has no command \"setPromt\"; it has set_prompt, echo, fail, set_brightness, \
         set_image, set_paused, set_resolution"
    );
    let none = Schema::parse(&json!({"openapi": "3.1.0"})).unwrap();
    let error = check(&none, "x", json!({})).unwrap_err();
    assert_eq!(
        error,
        "the model has no command \"x\"; it takes no commands"
    );
    let paths: Map<_, _> = (0..100)
        .map(|n| (format!("/events/command_{n}"), Value::Null))
        .collect();
    let many = Schema::parse(&json!({ "paths": paths })).unwrap();
    let error = check(&many, "comand_77", json!({})).unwrap_err();
    assert!(error.contains("it has command_77, "), "{error}");
    assert!(error.ends_with(" and 88 more"), "{error}");
    check(&many, "command_5", json!({"anything": [1]})).unwrap();
}

#[test]
fn value_of_wrong_type_is_refused() {
    let values = json!([null, true, 1, 1.0, 1.5, "x", [1], {"a": 1}]);
    let values = values.as_array().unwrap();
    for (name, accepted) in [
        ("null", &[0][..]),
        ("boolean", &[1]),
        ("integer", &[2, 3]),
        ("number", &[2, 3, 4]),
        ("string", &[5]),
        ("array", &[6]),
        ("object", &[7]),
        ("of-the-future", &[0, 1, 2, 3, 4, 5, 6, 7]),
    ] {
        for (n, value) in values.iter().enumerate() {
            let ok = one(json!({"type": name}), value.clone()).is_ok();
            assert_eq!(ok, accepted.contains(&n), "{name} {value}");
            let nullable = json!({"type": name, "nullable": true});
            assert_eq!(one(nullable, value.clone()).is_ok(), ok || n == 0);
            let several = json!({"type": [name, "null"]});
            assert_eq!(one(several, value.clone()).is_ok(), ok || n == 0);
        }
    }
}

#[test]
fn value_out_of_range_or_length_is_refused() {
    for (rules, good, bad) in [
        (json!({"minimum": 1}), json!(1), json!(0.99)),
        (json!({"maximum": 1}), json!(1.0), json!(2)),
        (json!({"exclusiveMinimum": 1}), json!(1.1), json!(1)),
        (json!({"exclusiveMaximum": 1}), json!(0.9), json!(1)),
        (
            json!({"minimum": 1, "exclusiveMinimum": true}),
            json!(2),
            json!(1),
        ),
        (
            json!({"maximum": 1, "exclusiveMaximum": true}),
            json!(0),
            json!(1),
        ),
        (json!({"minLength": 2}), json!("éé"), json!("é")),
        (json!({"maxLength": 2}), json!("éé"), json!("abc")),
        (json!({"minLength": 1}), json!([1]), json!([])),
        (json!({"maxItems": 1}), json!([1]), json!([1, 2])),
        (
            json!({"maxProperties": 1}),
            json!({"a": 1}),
            json!({"a": 1, "b": 1}),
        ),
        (json!({"enum": [1, "a", [1.0]]}), json!(1.0), json!(2)),
        (json!({"enum": [1, "a", [1.0]]}), json!([1]), json!(true)),
        (
            json!({"const": {"a": 1}}),
            json!({"a": 1.0}),
            json!({"a": 2}),
        ),
    ] {
        one(rules.clone(), good).unwrap();
        let error = one(rules.clone(), bad).unwrap_err();
        assert!(error.contains(" must "), "{rules}: {error}");
    }
    // Rules for other kinds of values do not count.
    one(json!({"minimum": 5, "minLength": 5}), json!(true)).unwrap();
    // Nor do those that are not as they should be, or that are not known.
    let odd = json!({
        "minimum": "5", "maxLength": null, "enum": 3, "type": 7, "anyOf": {}, "oneOf": [],
        "allOf": 1, "required": "x", "pattern": "(", "multipleOf": 7, "not": {},
    });
    for value in [json!(1), json!("x"), json!([1]), json!({"a": 1})] {
        one(odd.clone(), value).unwrap();
    }
}

#[test]
fn nested_value_refused_names_its_path() {
    let point = json!({
        "type": "object", "required": ["x"], "properties": {"x": {"type": "number"}},
    });
    let rules = json!({"type": "array", "items": point.clone()});
    one(rules.clone(), json!([{"x": 1}, {"x": 2, "other": 3}])).unwrap();
    let error = one(rules.clone(), json!([{"x": 1}, {"x": "2"}])).unwrap_err();
    assert!(
        error.contains("parameter \"p[1].x\" must be of the type number"),
        "{error}"
    );
    let error = one(rules.clone(), json!([{}])).unwrap_err();
    assert!(
        error.contains("parameter \"p[0]\" must have a member \"x\""),
        "{error}"
    );
    let optional = json!({"anyOf": [rules, {"type": "null"}]});
    one(optional.clone(), json!(null)).unwrap();
    let error = one(optional.clone(), json!([{"x": null}])).unwrap_err();
    assert!(error.contains("parameter \"p[0].x\" must"), "{error}");
    let error = one(optional, json!(1)).unwrap_err();
    assert!(
        error.contains("\"p\" must be array or null, but is 1"),
        "{error}"
    );
    let closed = json!({"properties": {"x": {}}, "additionalProperties": false});
    one(closed.clone(), json!({"x": 1})).unwrap();
    let error = one(closed, json!({"y": 1})).unwrap_err();
    assert!(error.contains("\"p.y\" must not be given"), "{error}");
    let table = json!({"additionalProperties": {"type": "string"}});
    one(table.clone(), json!({"y": 1})).unwrap_err();
    one(table, json!({"y": "1"})).unwrap();
    let tuple = json!({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}});
    one(tuple.clone(), json!(["a", 1, 2])).unwrap();
    one(tuple, json!([1, 1])).unwrap_err();
    one(json!({"allOf": [{"minimum": 1}, {"maximum": 2}]}), json!(3)).unwrap_err();
}

#[test]
fn reference_is_followed_unless_dangling() {
    let to = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    one(to("a~1b~0c"), json!("x")).unwrap();
    one(to("a~1b~0c"), json!(1)).unwrap_err();
    one(to("gone"), json!(1)).unwrap();
    one(json!({"$ref": "https://example.com/x"}), json!(1)).unwrap();
    one(to("Loop"), json!(1)).unwrap();
    one(to("Twice"), json!(1)).unwrap();
    let nested = json!({"next": {"next": {"n": 1.5}}});
    let error = one(to("Node"), nested).unwrap_err();
    assert!(error.contains("\"p.next.next.n\""), "{error}");
    let deep = (0..100).fold(json!({"n": 1.5}), |value, _| json!({ "next": value }));
    one(to("Node"), deep).unwrap();
}

#[test]
fn open_body_takes_anything() {
    let data = json!({"x": 1, "y": null});
    for body in [
        json!(null),
        json!(true),
        json!({}),
        json!({"type": "object"}),
        json!({"properties": 5}),
        json!({"properties": {}, "additionalProperties": true}),
        json!({"properties": {}, "additionalProperties": {}}),
        json!({"properties": {}, "patternProperties": {"^x": {}}}),
        json!({"properties": {}, "allOf": [{}]}),
        json!({"$ref": "#/nowhere"}),
        json!({"$ref": "#/components/schemas/Loop"}),
        json!({"properties": {"x": {}, "y": {}}, "required": [1, null]}),
    ] {
        check(&with_body(body), "c", data.clone()).unwrap();
    }
    let typed = json!({"properties": {}, "additionalProperties": {"type": "null"}});
    check(&with_body(typed), "c", data).unwrap_err();
}

#[test]
fn document_without_openapi_is_refused() {
    for document in [
        json!(null),
        json!([]),
        json!("x"),
        json!({}),
        json!({"detail": "Not Found"}),
        json!({"openapi": 3}),
        json!({"openapi": "3.1.0", "paths": []}),
    ] {
        let error = Schema::parse(&document).unwrap_err();
        assert_eq!(error.code, Code::DecodeFailed, "{document}");
    }
    let odd = json!({"paths": {"/events/": {}, "/other": 1, "/events/a": 1, "events/b": {}}});
    let schema = Schema::parse(&odd).unwrap();
    assert_eq!(schema.commands().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn validator_agrees_with_runtime_verdicts() {
    let schema = schema(TYPES);
    let mut count = 0;
    for line in VERDICTS.lines() {
        let (name, data, files, taken): (String, Value, Vec<String>, bool) =
            serde_json::from_str(line).unwrap();
        let files: Vec<_> = files.iter().map(String::as_str).collect();
        let verdict = try_files(&schema, &name, data, &files);
        assert_eq!(verdict.is_ok(), taken, "{line}: {verdict:?}");
        count += 1;
    }
    assert!(count > 150);
}

/// The same numbers in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end).unwrap()).unwrap()
    }

    fn json(&mut self, depth: usize) -> Value {
        const WORDS: [&str; 30] = [
            "type",
            "enum",
            "const",
            "anyOf",
            "oneOf",
            "allOf",
            "$ref",
            "properties",
            "items",
            "required",
            "minimum",
            "maximum",
            "minLength",
            "maxLength",
            "format",
            "nullable",
            "additionalProperties",
            "prefixItems",
            "p",
            "q",
            "object",
            "array",
            "string",
            "integer",
            "null",
            "#",
            "#/paths",
            "#/components/schemas/A",
            "reactor-upload-reference",
            "",
        ];
        match self.below(if depth > 4 { 7 } else { 14 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(self.below(9)),
            3 => json!(-1.5e300),
            4..=6 => json!(WORDS[self.below(WORDS.len())]),
            7..=9 => (0..self.below(4)).map(|_| self.json(depth + 1)).collect(),
            _ => (0..self.below(5))
                .map(|_| {
                    let word = WORDS[self.below(WORDS.len())];
                    (word.to_owned(), self.json(depth + 1))
                })
                .collect(),
        }
    }
}

#[test]
fn arbitrary_json_as_schema_never_panics() {
    let mut random = Random(11);
    for _ in 0..20_000 {
        let _ = Schema::parse(&random.json(0));
        let properties = json!({"p": random.json(0), "q": random.json(0)});
        let body = json!({"properties": properties, "required": random.json(3)});
        let mut document = json!({
            "paths": {"/events/c": {"post": {"requestBody": {"content": {
                "application/json": {"schema": body}}}}}},
            "components": {"schemas": {"A": random.json(0)}},
        });
        if random.below(4) == 0 {
            document["components"] = random.json(0);
        }
        let schema = Schema::parse(&document).unwrap();
        schema.parameters("c");
        let data = Map::from_iter([("p".to_owned(), random.json(0))]);
        let uploads = BTreeMap::from([("q".to_owned(), file())]);
        if let Err(error) = schema.check("c", &data, &uploads) {
            assert!(error.message.len() < 12_000, "{error}");
        }
    }
}

/// 5000 copies of it would be 500 MB.
#[test]
fn commands_share_the_body_that_they_refer_to() {
    let arguments = json!({
        "type": "object",
        "description": "x".repeat(100_000),
        "properties": {"n": {"type": "integer"}},
    });
    let path = json!({"post": {"requestBody": {"$ref": "#/components/requestBodies/Large"}}});
    let paths: Map<_, _> = (0..5000)
        .map(|n| (format!("/events/command_{n}"), path.clone()))
        .collect();
    let schema = Schema::parse(&json!({
        "paths": paths,
        "components": {"requestBodies": {"Large": {
            "content": {"application/json": {"schema": arguments}},
        }}},
    }))
    .unwrap();
    let names = schema.commands();
    let bodies: Vec<_> = names
        .map(|name| schema.arguments_schema(name).unwrap())
        .collect();
    assert_eq!(bodies.len(), 5000);
    assert!(bodies.iter().all(|body| std::ptr::eq(*body, bodies[0])));
    check(&schema, "command_77", json!({"n": 1})).unwrap();
    check(&schema, "command_78", json!({"n": "x"})).unwrap_err();
}
