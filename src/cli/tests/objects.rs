//! Users, keys, nodes, logins and policies: what is asked, and what is printed.

use super::*;

const ALICE: &str = r#"{"createdAt":"2026-11-24T07:48:58.828948997Z","displayName":"","email":"","id":"1","name":"alice","profilePicUrl":"","provider":"","providerId":""}"#;
const BOB: &str = r#"{"createdAt":"2026-11-24T07:48:59.289779731Z","displayName":"Bob B","email":"bob@example.com","id":"2","name":"bob","profilePicUrl":"","provider":"","providerId":""}"#;

fn users() -> Fake {
    Fake::new(|asked| {
        let users = match asked.line.split_once('?').map(|(_, query)| query) {
            None => format!("{ALICE},{BOB}"),
            Some("name=bob" | "id=2" | "email=bob%40example.com") => BOB.into(),
            Some("name=both") => format!("{ALICE},{BOB}"),
            Some(_) => String::new(),
        };
        match asked.line.split(' ').next() {
            Some("GET") => (200, format!(r#"{{"users":[{users}]}}"#)),
            Some("DELETE") => (200, "{}".into()),
            _ => (200, format!(r#"{{"user":{BOB}}}"#)),
        }
    })
}

#[test]
fn users_list_is_headscales_table() {
    let table = "\
ID | Name  | Username | Email           | Created            
1  |       | alice    |                 | 2026-11-24 07:48:58
2  | Bob B | bob      | bob@example.com | 2026-11-24 07:48:59

";
    let bob = "\
ID | Name  | Username | Email           | Created            
2  | Bob B | bob      | bob@example.com | 2026-11-24 07:48:59

";
    let fake = users();
    for line in ["users list", "user ls", "users show"] {
        assert_eq!(call(line).at(&fake), prints(table), "{line}");
    }
    for line in ["users list --name bob", "users list -i 2 -n alice", "users list -e bob@example.com"] {
        assert_eq!(call(line).at(&fake), prints(bob), "{line}");
    }
    let nobody = call("users list --name nobody").at(&fake);
    assert_eq!(nobody, prints("ID | Name | Username | Email | Created\n\n"));
}

#[test]
fn users_list_has_every_format() {
    let fake = users();
    let json = "[\n\t{\n\t\t\"createdAt\": \"2026-11-24T07:48:59.289779731Z\",\n\t\t\"displayName\": \"Bob B\",\n\t\t\"email\": \
                \"bob@example.com\",\n\t\t\"id\": \"2\",\n\t\t\"name\": \"bob\",\n\t\t\"profilePicUrl\": \"\",\n\t\t\"provider\": \
                \"\",\n\t\t\"providerId\": \"\"\n\t}\n]\n";
    assert_eq!(call("users list -i 2 -o json").at(&fake), prints(json));
    assert_eq!(call("users list -i 2 -o json-line").at(&fake), prints(format!("[{BOB}]\n")));
    let yaml = "- createdat: 2026-11-24T07:48:59.289779731Z\n  displayname: Bob B\n  email: bob@example.com\n  id: \"2\"\n  \
                name: bob\n  profilepicurl: \"\"\n  provider: \"\"\n  providerid: \"\"\n\n";
    assert_eq!(call("users list -i 2 -o yaml").at(&fake), prints(yaml));
    let other = call("users list -i 2 -o xml").at(&fake);
    assert!(other.out.starts_with("ID | Name"), "{other:?}");
}

#[test]
fn a_user_is_created_with_all_that_is_said() {
    let fake = users();
    let ran = call("users create bob --email bob@example.com -p https://a/b.png --display-name").arg("Bob B").at(&fake);
    assert_eq!(ran, prints("User created\n"));
    let asked = fake.asked_once();
    assert_eq!(asked.line, "POST /api/v1/user");
    let body: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    let expected = serde_json::json!({
        "name": "bob", "displayName": "Bob B", "email": "bob@example.com", "pictureUrl": "https://a/b.png"
    });
    assert_eq!(body, expected);
    assert_eq!(asked.idempotency_key.unwrap().len(), 32);
}

#[test]
fn a_user_is_renamed_by_id_and_by_name() {
    for line in ["users rename -i 2 -r a/b", "users mv --name bob --new-name a/b"] {
        let fake = users();
        assert_eq!(call(line).at(&fake), prints("User renamed\n"), "{line}");
        assert_eq!(fake.asked()[1].line, "POST /api/v1/user/2/rename/a%2Fb", "{line}");
    }
}

#[test]
fn a_user_that_is_not_the_only_one_is_not_touched() {
    let fake = users();
    let ambiguous = "multiple users match query, specify an ID";
    assert_eq!(call("users destroy -n both --force").at(&fake), fails(ambiguous));
    let none = call("users rename -i 99 -r x").at(&fake);
    assert!(none.code == 1 && none.err.starts_with(&format!("Error: {ambiguous}")), "{none:?}");
    assert!(fake.asked().iter().all(|asked| asked.line.starts_with("GET")));
}

#[test]
fn destroying_a_user_asks_first() {
    let question = "Do you want to remove the user \"bob\" (2) and any associated preauthkeys? [y/n] ";
    let fake = users();
    let ran = call("users destroy -i 2").answering("n\n").at(&fake);
    assert_eq!(ran, Ran { code: 0, out: "User not destroyed\n".into(), err: question.into() });
    assert_eq!(fake.asked().len(), 1);
    let ran = call("users destroy -i 2").answering("YES\n").at(&fake);
    assert_eq!(ran, Ran { code: 0, out: "User destroyed\n".into(), err: question.into() });
    assert_eq!(fake.asked()[2].line, "DELETE /api/v1/user/2");
    assert_eq!(call("users destroy -i 2 --force").at(&fake), prints("User destroyed\n"));
    assert_eq!(call("users destroy -i 2 --force -o json").at(&fake), prints("{}\n"));
}

const KEYS: &str = r#"{"preAuthKeys":[
 {"aclTags":[],"createdAt":"2026-11-24T07:48:58Z","ephemeral":false,"expiration":"2026-11-25T07:48:58Z","id":"1","key":"hskey-auth-286c69e91969-***","reusable":true,"used":false,"user":{"name":"alice","id":"1"}},
 {"aclTags":["tag:db","tag:web"],"createdAt":"2026-11-24T07:48:59Z","ephemeral":false,"expiration":"2026-11-24T08:48:59Z","id":"6","key":"hskey-auth-2fd29a0b6c59-***","reusable":false,"used":false,"user":null},
 {"aclTags":[],"createdAt":"2026-11-24T07:48:59Z","ephemeral":true,"expiration":null,"id":"7","key":"hskey-auth-000000000000-***","reusable":false,"used":true,"user":null}]}"#;

#[test]
fn preauthkeys_list_is_headscales_table() {
    let table = "\
ID | Key/Prefix                  | Reusable | Ephemeral | Used  | Expiration          | Created             | Owner  
1  | hskey-auth-286c69e91969-*** | true     | false     | false | 2026-11-25 07:48:58 | 2026-11-24 07:48:58 | alice  
6  | hskey-auth-2fd29a0b6c59-*** | false    | false     | false | 2026-11-24 08:48:59 | 2026-11-24 07:48:59 | tag:db 
   |                             |          |           |       |                     |                     | tag:web
7  | hskey-auth-000000000000-*** | false    | true      | true  | -                   | 2026-11-24 07:48:59 | -      

";
    let fake = Fake::saying(200, KEYS);
    for line in ["preauthkeys list", "preauthkey ls", "authkey show", "pre ls"] {
        assert_eq!(call(line).at(&fake), prints(table), "{line}");
    }
}

#[test]
fn a_key_without_a_user_has_null_where_the_api_has_it() {
    let fake = Fake::saying(200, KEYS);
    let json: serde_json::Value = serde_json::from_str(&call("preauthkeys list -o json").at(&fake).out).unwrap();
    assert_eq!(json[1]["user"], serde_json::Value::Null);
    assert_eq!(json[0]["user"]["name"], "alice");
}

#[test]
fn a_key_is_created_for_an_hour_unless_told_otherwise() {
    let answer =
        r#"{"preAuthKey":{"aclTags":["tag:web"],"id":"3","key":"hskey-auth-1347f854b337-secret","user":null}}"#;
    let fake = Fake::saying(200, answer);
    assert_eq!(call("preauthkeys create --user 1").at(&fake), prints("hskey-auth-1347f854b337-secret\n"));
    let line = "preauthkeys create --tags tag:web,tag:db --tags tag:x --reusable --ephemeral=true -e 1d";
    assert_eq!(call(line).at(&fake).code, 0);
    let bodies: Vec<serde_json::Value> =
        fake.asked().iter().map(|asked| serde_json::from_str(&asked.body).unwrap()).collect();
    assert_eq!((&bodies[0]["user"], &bodies[0]["reusable"]), (&"1".into(), &false.into()));
    assert_eq!(bodies[1]["aclTags"], serde_json::json!(["tag:web", "tag:db", "tag:x"]));
    assert_eq!((&bodies[1]["reusable"], &bodies[1]["ephemeral"]), (&true.into(), &true.into()));
    assert_eq!(bodies[1]["user"], serde_json::Value::Null);
    for (body, hours) in [(&bodies[0], 1), (&bodies[1], 24)] {
        let expiration: jiff::Timestamp = body["expiration"].as_str().unwrap().parse().unwrap();
        let ahead = expiration.as_second() - jiff::Timestamp::now().as_second();
        assert!((hours * 3600 - 60..=hours * 3600).contains(&ahead), "{ahead}");
    }
}

#[test]
fn keys_are_expired_and_deleted_by_id() {
    let fake = Fake::saying(200, "{}");
    assert_eq!(call("preauthkeys revoke --id 2").at(&fake), prints("Key expired\n"));
    assert_eq!(call("preauthkeys rm -i 3").at(&fake), prints("Key deleted\n"));
    assert_eq!(call("apikeys expire --id 1").at(&fake), prints("Key expired\n"));
    assert_eq!(call("apikeys exp --prefix 1c6101ec7372").at(&fake), prints("Key expired\n"));
    let asked: Vec<String> = fake.asked().iter().map(|asked| format!("{} {}", asked.line, asked.body)).collect();
    let expected = [
        "POST /api/v1/preauthkey/expire {\"id\":\"2\"}",
        "DELETE /api/v1/preauthkey?id=3 ",
        "POST /api/v1/apikey/expire {\"id\":\"1\"}",
        "POST /api/v1/apikey/expire {\"prefix\":\"1c6101ec7372\"}",
    ];
    assert_eq!(asked, expected);
}

fn api_keys() -> Fake {
    Fake::new(|asked| {
        match asked.line.as_str() {
        "GET /api/v1/apikey" => (
            200,
            r#"{"apiKeys":[{"createdAt":"2026-11-24T07:49:00.3Z","expiration":"2027-02-22T07:49:00.2Z","id":"1","lastSeen":"2026-11-24T08:10:00Z","owner":"alice","prefix":"hskey-api-1c6101ec7372-***","role":"read-only"}]}"#.into(),
        ),
        "POST /api/v1/apikey" => (200, r#"{"apiKey":"hskey-api-1c6101ec7372-secret"}"#.into()),
        _ => (200, "{}".into()),
    }
    })
}

#[test]
fn api_keys_are_created_listed_and_deleted() {
    let fake = api_keys();
    assert_eq!(call("apikeys create").at(&fake), prints("hskey-api-1c6101ec7372-secret\n"));
    assert_eq!(call("apikeys create -e 1h -o json").at(&fake), prints("\"hskey-api-1c6101ec7372-secret\"\n"));
    let table = "\
ID | Prefix                     | Expiration          | Created             | Role      | Owner | Last used          
1  | hskey-api-1c6101ec7372-*** | 2027-02-22 07:49:00 | 2026-11-24 07:49:00 | read-only | alice | 2026-11-24 08:10:00

";
    assert_eq!(call("api ls").at(&fake), prints(table));
    assert!(call("apikeys list -o json").at(&fake).out.contains("\n\t\t\"lastSeen\": \"2026-11-24T08:10:00Z\",\n"));
    assert_eq!(call("apikeys delete --id 1").at(&fake), prints("Key deleted\n"));
    assert_eq!(fake.asked().last().unwrap().line, "DELETE /api/v1/apikey/hskey-api-1c6101ec7372-%2A%2A%2A");
    let ran = call("apikeys delete --id 99").at(&fake);
    assert_eq!(ran, fails("deleting api key: there is no key with the id 99"));
}

const NODES: &str = r#"{"nodes":[
 {"approvedRoutes":[],"availableRoutes":[],"createdAt":"2026-11-24T07:49:01.136778451Z","discoKey":"","expiry":null,"givenName":"pers-000001","id":"1",
  "ipAddresses":["100.64.0.1","fd7a:115c:a1e0::1"],"lastSeen":"2026-11-24T07:49:02.226411109Z",
  "machineKey":"mkey:38a87d273279bb3a4852eeafa1e5260b60c4a7157aee3477a1850b761dad4c2a","name":"pers-000001",
  "nodeKey":"nodekey:078cd3f9e0fe57e3dfb1108de9f06d31783709f8b901567b173338849ae9e113","online":true,"preAuthKey":{"ephemeral":false},
  "registerMethod":"REGISTER_METHOD_AUTH_KEY","subnetRoutes":[],"tags":[],"user":{"name":"alice"}},
 {"approvedRoutes":["0.0.0.0/0","10.0.0.0/8","::/0"],"availableRoutes":["10.0.0.0/8"],"expiry":"2026-01-02T03:04:05Z","givenName":"tagd-000000","id":"3","ipAddresses":["100.64.0.3","fd7a:115c:a1e0::3"],
  "lastSeen":"2026-11-24T07:49:04.228992992Z","machineKey":"mkey:176f1f4856a200eb2a3ad32a4c35be5e9a2bb3d130217cc5f2a209be7fd6a660","name":"tagd-000000",
  "nodeKey":"nodekey:744d6d9b59d7638019d7c16a7331297cdeedd3b9cca2982d0cded188b76cf560","online":false,"preAuthKey":{"ephemeral":true},
  "subnetRoutes":["10.0.0.0/8"],"tags":["tag:web"],"user":{"name":"tagged-devices","id":"2147455555"}}]}"#;

#[test]
fn nodes_list_is_headscales_table() {
    let table = "\
ID | Hostname    | Name        | MachineKey | NodeKey | User           | Tags    | IP addresses      | Ephemeral | Last seen           | Expiration          | Connected | Expired
1  | pers-000001 | pers-000001 | [OKh9J]    | [B4zT+] | alice          |         | 100.64.0.1        | false     | 2026-11-24 07:49:02 | N/A                 | online    | no     
   |             |             |            |         |                |         | fd7a:115c:a1e0::1 |           |                     |                     |           |        
3  | tagd-000000 | tagd-000000 | [F28fS]    | [dE1tm] | tagged-devices | tag:web | 100.64.0.3        | true      | 2026-11-24 07:49:04 | 2026-01-02 03:04:05 | offline   | yes    
   |             |             |            |         |                |         | fd7a:115c:a1e0::3 |           |                     |                     |           |        

";
    let fake = Fake::saying(200, NODES);
    for line in ["nodes list", "node ls", "nodes show"] {
        assert_eq!(call(line).at(&fake), prints(table), "{line}");
    }
    assert_eq!(call("nodes list -u").arg("a b&c").at(&fake).code, 0);
    assert_eq!(fake.asked().last().unwrap().line, "GET /api/v1/node?user=a%20b%26c");
    let colourful = call("nodes list").in_colour().at(&fake).out;
    assert!(colourful.contains("\x1b[92monline   \x1b[0m") && colourful.contains("\x1b[91moffline  \x1b[0m"));
}

#[test]
fn no_nodes_are_a_header_and_an_empty_list() {
    let fake = Fake::saying(200, r#"{"nodes":[]}"#);
    let header = "ID | Hostname | Name | MachineKey | NodeKey | User | Tags | IP addresses | Ephemeral | Last seen | \
                  Expiration | Connected | Expired\n\n";
    assert_eq!(call("nodes list").at(&fake), prints(header));
    assert_eq!(call("nodes list -o json").at(&fake), prints("[]\n"));
    assert_eq!(
        call("nodes list-routes").at(&fake),
        prints("ID | Hostname | Approved | Available | Serving (Primary)\n\n")
    );
}

#[test]
fn list_routes_shows_only_nodes_that_have_any() {
    let table = "\
ID | Hostname    | Approved   | Available  | Serving (Primary)
3  | tagd-000000 | 0.0.0.0/0  | 10.0.0.0/8 | 10.0.0.0/8       
   |             | 10.0.0.0/8 |            |                  
   |             | ::/0       |            |                  

";
    let fake = Fake::saying(200, NODES);
    assert_eq!(call("nodes list-routes").at(&fake), prints(table));
    assert_eq!(call("nodes routes -i 3").at(&fake), prints(table));
    assert_eq!(call("nodes lsr -i 1 -o json").at(&fake), prints("[]\n"));
}

#[test]
fn nodes_in_yaml_have_headscales_keys() {
    let yaml = call("nodes list -o yaml").at(&Fake::saying(200, NODES)).out;
    for part in [
        "- approvedroutes: []\n",
        "  expiry: null\n",
        "  ipaddresses:\n    - 100.64.0.1\n",
        "  preauthkey:\n    acltags: []\n",
    ] {
        assert!(yaml.contains(part), "{part}\nis not in\n{yaml}");
    }
}

#[test]
fn each_change_of_a_node_asks_for_it_and_says_it_is_done() {
    let node = r#"{"node":{"id":"1","givenName":"pers"}}"#;
    let cases = [
        (
            "nodes approve-routes -i 1 -r 10.0.0.0/8,0.0.0.0/0",
            "POST /api/v1/node/1/approve_routes {\"routes\":[\"10.0.0.0/8\",\"0.0.0.0/0\"]}",
            "Node updated",
        ),
        ("nodes approve-routes -i 1 -r=", "POST /api/v1/node/1/approve_routes {\"routes\":[]}", "Node updated"),
        (
            "nodes tag -i 1 -t tag:a -t tag:b",
            "POST /api/v1/node/1/tags {\"tags\":[\"tag:a\",\"tag:b\"]}",
            "Node updated",
        ),
        ("nodes rename -i 1 new-name", "POST /api/v1/node/1/rename/new-name {}", "Node renamed"),
        ("nodes expire -i 1", "POST /api/v1/node/1/expire {}", "Node expired"),
        ("nodes logout -i 1 -d", "POST /api/v1/node/1/expire {\"disableExpiry\":true}", "Node expiry disabled"),
        (
            "nodes expire -i 1 -e 2999-01-02T03:04:05Z",
            "POST /api/v1/node/1/expire {\"expiry\":\"2999-01-02T03:04:05Z\"}",
            "Node expiration updated",
        ),
        (
            "nodes expire -i 1 -e 2001-01-02T03:04:05Z",
            "POST /api/v1/node/1/expire {\"expiry\":\"2001-01-02T03:04:05Z\"}",
            "Node expired",
        ),
        (
            "auth register --user alice --auth-id k",
            "POST /api/v1/auth/register {\"authId\":\"k\",\"user\":\"alice\"}",
            "Node pers registered",
        ),
        ("auth approve --auth-id k", "POST /api/v1/auth/approve {\"authId\":\"k\"}", "Auth request approved"),
        ("auth reject --auth-id k", "POST /api/v1/auth/reject {\"authId\":\"k\"}", "Auth request rejected"),
        (
            "nodes backfillips --force",
            "POST /api/v1/node/backfillips?confirmed=true {}",
            "Node IPs backfilled successfully",
        ),
    ];
    for (line, request, done) in cases {
        let fake = Fake::saying(200, node);
        assert_eq!(call(line).at(&fake), prints(format!("{done}\n")), "{line}");
        let asked = fake.asked_once();
        assert_eq!(format!("{} {}", asked.line, asked.body), request, "{line}");
        assert!(asked.idempotency_key.is_some(), "{line}");
    }
}

#[test]
fn the_old_way_to_register_works_and_says_that_it_is_old() {
    let fake = Fake::saying(200, r#"{"node":{"givenName":"pers"}}"#);
    let ran = call("nodes register --user alice --key k").at(&fake);
    let notice =
        "Command \"register\" is deprecated, use 'headscale auth register --auth-id <id> --user <user>' instead\n";
    assert_eq!(ran, Ran { code: 0, out: "Node pers registered\n".into(), err: notice.into() });
    assert_eq!(fake.asked_once().line, "POST /api/v1/node/register?user=alice&key=k");
    let fake = Fake::refusing(404, "looking up user: user not found");
    let ran = call("nodes register --user nobody --key k").at(&fake);
    assert_eq!(ran.err, format!("{notice}Error: unexpected response status: looking up user: user not found\n"));
}

#[test]
fn deleting_a_node_asks_first() {
    let fake = Fake::saying(200, r#"{"node":{"id":"3","givenName":"tagd-000000"}}"#);
    let question = "Do you want to remove the node tagd-000000? [y/n] ";
    let ran = call("nodes delete -i 3").at(&fake);
    assert_eq!(ran, Ran { code: 0, out: "Node not deleted\n".into(), err: question.into() });
    assert_eq!(call("nodes del -i 3 --force").at(&fake), prints("Node deleted\n"));
    let lines: Vec<String> = fake.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(lines, ["GET /api/v1/node/3", "GET /api/v1/node/3", "DELETE /api/v1/node/3"]);
}

#[test]
fn backfillips_without_a_yes_does_nothing() {
    let fake = Fake::saying(200, "{}");
    let ran = call("nodes backfillips").at(&fake);
    let question = "Are you sure that you want to assign/remove IPs to/from nodes? [y/n] ";
    assert_eq!(ran, Ran { code: 0, out: String::new(), err: question.into() });
    assert!(fake.asked().is_empty());
}

#[test]
fn a_policy_is_sent_and_printed_as_it_is() {
    let text = "// who may do what\n{\"acls\": [],}\n";
    let body = serde_json::json!({ "policy": text, "updatedAt": "2026-11-24T07:49:00Z" }).to_string();
    let fake = Fake::saying(200, body);
    let file = fake.path().join("p.hujson");
    std::fs::write(&file, text).unwrap();
    let file = file.display();
    assert_eq!(call("policy get").at(&fake), prints(format!("{text}\n")));
    assert_eq!(call("policy show -o json").at(&fake), prints(format!("{text}\n")));
    assert_eq!(call(&format!("policy set -f {file}")).at(&fake), prints("Policy updated.\n"));
    assert_eq!(call(&format!("policy check --file={file}")).at(&fake), prints("Policy is valid\n"));
    let asked = fake.asked();
    assert_eq!(asked[2].line, "PUT /api/v1/policy");
    assert_eq!(asked[2].body, serde_json::json!({ "policy": text }).to_string());
    assert_eq!(asked[3].line, "POST /api/v1/policy/check");
}

#[test]
fn health_is_an_empty_line() {
    let fake = Fake::saying(200, r#"{"databaseConnectivity":true}"#);
    assert_eq!(call("health").at(&fake), prints("\n"));
    assert_eq!(call("health -o json").at(&fake), prints("{\n\t\"databaseConnectivity\": true\n}\n"));
    assert_eq!(fake.asked()[0].idempotency_key, None, "a question needs no key");
}

#[test]
fn an_argument_without_a_use_is_told_and_ignored() {
    let ran = call("users list alice").at(&users());
    assert_eq!((ran.code, ran.err.as_str()), (0, "Warning: the argument \"alice\" has no effect\n"));
}

#[test]
fn the_last_of_several_flags_counts_and_a_value_may_begin_with_a_dash() {
    let fake = users();
    assert_eq!(call("users list -n alice -n -x --name=bob").at(&fake).code, 0);
    assert_eq!(fake.asked_once().line, "GET /api/v1/user?name=bob");
    assert_eq!(call("users list -n -x").at(&fake).code, 0);
    assert_eq!(fake.asked()[1].line, "GET /api/v1/user?name=-x");
    assert_eq!(call("users list -i -1").at(&fake).code, 0);
    assert_eq!(fake.asked()[2].line, "GET /api/v1/user");
}

#[test]
fn a_keys_role_and_owner_are_sent_only_where_they_are_given() {
    let fake = api_keys();
    call("apikeys create").at(&fake);
    call("apikeys create --role read-only --owner grafana").at(&fake);
    let bodies: Vec<serde_json::Value> =
        fake.asked().iter().map(|asked| serde_json::from_str(&asked.body).unwrap()).collect();
    assert_eq!((&bodies[0]["role"], &bodies[0]["owner"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    assert_eq!((&bodies[1]["role"], &bodies[1]["owner"]), (&"read-only".into(), &"grafana".into()));
}

#[test]
fn audit_records_are_a_table_for_people_and_the_apis_list_for_programs() {
    const RECORDS: &str = r#"{"records":[{"action":"node.delete","by":"root on replica 2","detail":"","from":"socket of replica 2","id":"77","subject":"node 3 (web-1)","time":"2026-11-24T08:10:00Z"}]}"#;
    let fake = Fake::saying(200, RECORDS);
    let table = "\
ID | Time                | Who               | From                | Action      | Subject        | Detail
77 | 2026-11-24 08:10:00 | root on replica 2 | socket of replica 2 | node.delete | node 3 (web-1) |       

";
    assert_eq!(call("audit list").at(&fake), prints(table));
    assert!(call("audit ls -o json").at(&fake).out.starts_with("[\n\t{\n\t\t\"action\": \"node.delete\","));
    assert!(call("audit ls -o yaml").at(&fake).out.starts_with("- action: node.delete\n"));
    call("audit list --limit 5 --action node --subject").arg("web 1").at(&fake);
    let lines: Vec<String> = fake.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(lines[0], "GET /api/v1/audit?limit=100");
    assert_eq!(lines[3], "GET /api/v1/audit?limit=5&action=node&subject=web%201");
    call("audit list --since 1h --before 70").at(&fake);
    let last = fake.asked().pop().unwrap().line;
    assert!(last.starts_with("GET /api/v1/audit?limit=100&since=20") && last.ends_with("&before=70"), "{last}");
    assert_eq!(call("audit list --since soon").at(&fake).code, 1);
}
