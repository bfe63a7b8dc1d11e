//! Moving in through the API.

use super::*;
use crate::state::{ApiKey, ApiKeyId, ApiKeyRole, Import, KeyHash, LastNumbers, User};
use crate::tailcfg::PrivateKey;

/// Of `0123456789abcdef` four times, and of 32 characters: by Go's bcrypt, cost 10.
const SLOW: &str = "$2a$10$ANE4LqDU7qKsMKftXDET0OIdED8ND.COVp.St65SCpEeW8rKM1pfG";
const SLOW_OLD: &str = "$2a$10$i5cx70agT16v4HmdstZqIuA8wfMPOlNl9.lyG7NM7FiHevNOWbWRu";

fn content(noise: &PrivateKey, settings: &Settings) -> Import {
    let key = |id, prefix: &str, hash: &str| ApiKey {
        id: ApiKeyId(id),
        prefix: prefix.into(),
        hash: KeyHash::try_from(hash.to_owned()).unwrap(),
        expiration: None,
        created: Time(1),
        role: ApiKeyRole::Admin,
        owner: String::new(),
        last_used: None,
    };
    Import {
        source: "Headscale 0.29.2".into(),
        settings: settings.clone(),
        noise_public: MachineKey(noise.public()),
        users: vec![User {
            id: UserId(3),
            name: "alice".into(),
            display_name: String::new(),
            email: String::new(),
            profile_pic_url: String::new(),
            provider: String::new(),
            provider_id: String::new(),
            created: Time(1),
        }],
        pre_auth_keys: Vec::new(),
        api_keys: vec![key(1, "aaaaaaaaaaaa", SLOW), key(2, "abcdefg", SLOW_OLD)],
        nodes: Vec::new(),
        policy: Some(r#"{"groups": {"group:all": ["alice@"]}}"#.into()),
        last: LastNumbers::default(),
    }
}

fn body(noise: &PrivateKey, content: &Import, dry_run: bool) -> Value {
    json!({"dryRun": dry_run, "noisePrivateKey": noise.reveal(), "content": content})
}

fn settings(world: &World) -> Settings {
    world.cluster.view().settings().unwrap().as_ref().clone()
}

#[tokio::test]
async fn an_import_is_checked_then_done_then_known_again() {
    let world = World::new();
    let noise = PrivateKey::generate();
    let content = content(&noise, &Settings { base_domain: "old.net".into(), ..settings(&world) });

    let checked = world.ok("POST", "/import", body(&noise, &content, true)).await;
    assert_eq!((&checked["applied"], &checked["repeated"]), (&json!(false), &json!(false)));
    let note = checked["notes"][0].as_str().unwrap();
    assert!(note.starts_with("dns.base_domain is \"example.com\" in this cluster, and becomes \"old.net\""), "{note}");
    assert_eq!(world.cluster.view().users().count(), 0, "a check changes nothing");

    let done = world.ok("POST", "/import", body(&noise, &content, false)).await;
    assert_eq!(done["applied"], true);
    let view = world.cluster.view();
    assert_eq!(view.server_keys().unwrap().noise_public, MachineKey(noise.public()));
    assert_eq!(world.cluster.noise_key().unwrap().reveal(), noise.reveal(), "it opens with the cluster's secret");
    assert!(view.policy().unwrap().author.starts_with("socket"));

    let again = world.ok("POST", "/import", body(&noise, &content, false)).await;
    assert_eq!((&again["applied"], &again["repeated"]), (&json!(false), &json!(true)));
    let other = Import { users: Vec::new(), policy: None, ..content };
    let (status, text) = world.error("POST", "/import", body(&noise, &other, false)).await;
    assert_eq!(status, 409);
    assert!(text.contains("another import filled this cluster: Headscale 0.29.2"), "{text}");
}

#[tokio::test]
async fn a_policy_that_names_nobody_is_told_before_anything_changes() {
    let world = World::new();
    let noise = PrivateKey::generate();
    let policy = Some(r#"{"tagOwners": {"tag:x": ["group:none"]}}"#.into());
    let content = Import { policy, ..content(&noise, &settings(&world)) };
    let (status, text) = world.error("POST", "/import", body(&noise, &content, false)).await;
    assert_eq!(status, 400);
    assert!(text.starts_with("the policy would not be in force as it is: "), "{text}");
    assert_eq!(world.cluster.view().users().count(), 0);
}

#[tokio::test]
async fn a_cluster_that_reads_its_policy_from_a_file_says_so() {
    let world = World::with(PolicyMode::File);
    let noise = PrivateKey::generate();
    let answer = world.ok("POST", "/import", body(&noise, &content(&noise, &settings(&world)), false)).await;
    assert!(answer["notes"][0].as_str().unwrap().starts_with("the policy is not imported"), "{answer}");
    assert!(world.cluster.view().policy().is_none());
}

#[tokio::test]
async fn a_noise_key_that_does_not_fit_is_refused() {
    let world = World::new();
    let content = content(&PrivateKey::generate(), &settings(&world));
    let (status, text) = world.error("POST", "/import", body(&PrivateKey::generate(), &content, false)).await;
    assert_eq!((status, text.contains("is not the private half")), (400, true), "{text}");
}

#[tokio::test]
async fn an_imported_api_key_opens_the_api_and_is_fast_from_then_on() {
    let world = World::new();
    let noise = PrivateKey::generate();
    world.ok("POST", "/import", body(&noise, &content(&noise, &settings(&world)), false)).await;
    let secret = "0123456789abcdef".repeat(4);
    let old = "abcdefghijklmnopqrstuvwxyz012345";
    for (key, status) in [
        (format!("hskey-api-aaaaaaaaaaaa-{}", secret.replace('f', "e")), 401),
        (format!("hskey-api-aaaaaaaaaaaa-{secret}"), 200),
        (format!("hskey-api-aaaaaaaaaaaa-{secret}"), 200),
        ("abcdefg.abcdefghijklmnopqrstuvwxyz012346".into(), 401),
        (format!("abcdefg.{old}"), 200),
        (format!("abcdefg.{old}"), 200),
    ] {
        let request = request("GET", "/user").header("authorization", format!("Bearer {key}"));
        let answer = send(&world.network(), request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
    assert!(world.cluster.view().api_keys().all(|key| key.hash.bcrypt().is_none()));
}
