//! Whatever a provider or a browser may send.

use super::allowed;
use super::claims::{Claims, Expected};
use super::jws::Keys;
use super::tests::rules;
use crate::fuzzing::{Bent, bent, bent_json};
use crate::state::{Time, user_name_fault};
use serde_json::{Value, json};

#[test]
fn fuzz_tokens_and_keys() {
    let vectors: Value = serde_json::from_str(include_str!("vectors.json")).unwrap();
    let keys = vectors["keys"].to_string().into_bytes();
    let good = Keys::parse(format!("{{\"keys\":{}}}", vectors["keys"]).as_bytes()).unwrap();
    let tokens: Vec<String> =
        vectors["tokens"].as_object().unwrap().values().map(|token| token.as_str().unwrap().to_owned()).collect();
    let inputs: Vec<Vec<u8>> = tokens.iter().map(|token| token.clone().into_bytes()).chain([keys]).collect();
    bolero::check!().with_type::<Bent>().for_each(|input| {
        let bytes = bent(&inputs, input);
        let _ = Keys::parse(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(content) = good.verify(&text, |_| true) {
            // A change that a signature survives changed nothing of what was signed.
            assert_eq!(content, br#"{"sub":"7"}"#, "{text}");
        }
    });
}

#[test]
fn fuzz_claims() {
    let good = [json!({
        "iss": "https://id.example.com", "aud": ["a", "b"], "azp": "a", "exp": 2_000_000_000, "nbf": 1, "nonce": "n",
        "sub": "carol", "name": "Carol", "preferred_username": "carol", "email": "carol@example.com",
        "email_verified": true, "picture": "https://example.com/c.png", "groups": ["staff"],
    })];
    let rules = rules("https://id.example.com");
    bolero::check!().with_type::<Bent>().for_each(|input| {
        let json = bent_json(&good, input).to_string();
        let expected = Expected { issuer: "https://id.example.com", client_id: "a", nonce: "n", now: Time(1_000) };
        let Ok(mut claims) = Claims::of_id_token(json.as_bytes(), &expected) else { return };
        let _ = claims.add_user_info(json.as_bytes());
        let _ = allowed::check(&claims, &rules);
        let user = claims.to_user(&rules);
        assert!(user.provider_id.starts_with("https://id.example.com/") && user.provider_id.len() > 23);
        assert!(user.name.is_none_or(|name| user_name_fault(&name).is_none()));
    });
}
