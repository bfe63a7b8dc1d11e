//! What a server's refusal looks like.

use super::*;

#[test]
fn a_refusal_is_printed_in_the_servers_words() {
    let fake = Fake::refusing(409, "user already exists");
    assert_eq!(call("users create bob").at(&fake), fails("unexpected response status: user already exists"));
    let json = "{\n\t\"error\": \"unexpected response status: user already exists\"\n}\n";
    let ran = call("users create bob -o json").at(&fake);
    assert_eq!(ran, Ran { code: 1, out: String::new(), err: json.into() });
    let ran = call("users create bob -o yaml").at(&fake);
    assert_eq!(ran.err, "error: 'unexpected response status: user already exists'\n");
}

#[test]
fn the_errors_of_a_refusal_follow_its_detail() {
    let body = r#"{"title":"Bad Request","status":400,"detail":"parsing policy: x","errors":[{"message":"a"},{"message":"b"}]}"#;
    let ran = call("health").at(&Fake::saying(400, body));
    assert_eq!(ran, fails("unexpected response status: parsing policy: x: a: b"));
}

#[test]
fn a_refusal_without_a_detail_is_its_title_or_its_status() {
    let unauthorized = r#"{"title":"Unauthorized","status":401}"#;
    assert_eq!(call("health").at(&Fake::saying(401, unauthorized)), fails("unexpected response status: Unauthorized"));
    let page = "<html>nginx</html>";
    assert_eq!(
        call("health").at(&Fake::saying(500, page)),
        fails("unexpected response status: 500 Internal Server Error")
    );
}

#[test]
fn an_answer_that_is_none_of_the_api_is_an_error() {
    let ran = call("nodes list").at(&Fake::saying(200, "<html>"));
    assert!(ran.code == 1 && ran.err.starts_with("Error: listing nodes: the server's answer is not"), "{}", ran.err);
}

#[test]
fn without_a_server_at_the_socket_the_error_says_where_it_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    let ran =
        call("nodes list").env("HEADSCALE_UNIX_SOCKET", socket.display()).env("HEADSCALE_CLI_TIMEOUT", "100ms").run();
    let start = "Error: listing nodes: Get \"http://local/api/v1/node\": context deadline exceeded (no server answers at the socket";
    assert!(ran.code == 1 && ran.err.starts_with(start) && ran.err.contains("none.sock"), "{}", ran.err);
}

#[test]
fn a_server_that_is_just_starting_is_waited_for() {
    let fake = Fake::saying(200, r#"{"nodes":[]}"#);
    let late = fake.path().join("late");
    let (from, to) = (fake.socket(), late.clone());
    let starting = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        std::os::unix::fs::symlink(from, to).unwrap();
    });
    let ran = call("nodes list -o json").env("HEADSCALE_UNIX_SOCKET", late.display()).run();
    starting.join().unwrap();
    assert_eq!(ran, prints("[]\n"));
}

#[test]
fn a_server_that_does_not_answer_is_not_waited_for_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let ran =
        call("nodes list").env("HEADSCALE_UNIX_SOCKET", socket.display()).env("HEADSCALE_CLI_TIMEOUT", "100ms").run();
    assert!(ran.code == 1 && ran.err.contains("did not answer in time"), "{}", ran.err);
}

#[test]
fn a_configuration_that_cannot_be_read_is_an_error() {
    let ran = call("nodes list -c no/such.yaml").run();
    let start = "Error: connecting to headscale: loading configuration: reading no/such.yaml: No such file";
    assert!(ran.code == 1 && ran.err.starts_with(start), "{}", ran.err);
}
