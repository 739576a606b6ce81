// SPDX-License-Identifier: MIT

use serde_json::json;

use super::*;

#[test]
fn secret_debug_output_is_masked() {
    let secret = Secret::new("hunter2");
    assert_eq!(secret.expose(), "hunter2");
    assert_eq!(
        format!("{secret:?} {:#?}", Some(&secret)),
        "*** Some(\n    ***,\n)"
    );
}

#[test]
fn secret_in_text_is_masked() {
    let secret = Secret::new("rk_0123456789abcdef");
    for (text, left) in [
        ("rk_0123456789abcdef", "***"),
        ("bad key rk_0123456789abcdef!", "bad key ***!"),
        ("RK_0123456789ABCDEF", "***"),
        ("rk_0123456789abcdefrk_0123456789abcdef", "******"),
        // Shortened at either end, and so short that it tells nothing.
        ("no key rk_0123456789a…", "no key ***…"),
        (
            "…456789abcdef is no key",
            "…456789abcdef is no key"
                .replace("456789abcdef", "***")
                .as_str(),
        ),
        ("rk_01234567", "rk_01234567"),
        ("né rk_ 0123 € abcdef", "né rk_ 0123 € abcdef"),
        ("", ""),
    ] {
        assert_eq!(secret.redact(text), left);
    }
    assert_eq!(Secret::new("key").redact("a KEY of iron"), "a *** of iron");
    assert_eq!(Secret::new("").redact("text"), "text");
    assert_eq!(
        Secret::new("schlüssel-schlüssel").redact("schlüssel-schlüssel"),
        "***"
    );
}

#[test]
fn secret_in_json_is_masked() {
    let secret = Secret::new("rk_0123456789abcdef");
    let mut value = json!({"a": ["Bearer rk_0123456789abcdef", 5, null], "b": "rk_0123456789abc"});
    secret.redact_json(&mut value);
    assert_eq!(
        value,
        json!({"a": ["Bearer ***", 5, null], "b": "rk_0123456789abc"})
    );
    let mut value = json!("a local word");
    Secret::new("local").redact_json(&mut value);
    assert_eq!(value, "a local word");
}
