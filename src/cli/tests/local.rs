//! Commands that need no server, and how arguments are taken.

use super::*;

#[test]
fn version_has_four_lines_and_an_empty_one() {
    let ran = call("version").run();
    let lines: Vec<&str> = ran.out.split('\n').collect();
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert_eq!(lines[0], concat!("headscale version ", env!("CARGO_PKG_VERSION")));
    assert_eq!((lines[1], lines[2]), ("commit: unknown", "build time: unknown"));
    assert!(lines[3].starts_with("built with: rust") && lines[3].contains("linux/"), "{lines:?}");
    let json: serde_json::Value = serde_json::from_str(&call("version -o json").run().out).unwrap();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert!(call("version").named("/usr/bin/quorumscale").run().out.starts_with("quorumscale version "));
}

#[test]
fn generated_keys_and_secrets_have_their_form() {
    let key = call("generate private-key").run().out;
    assert!(key.starts_with("privkey:") && key.trim_end().len() == "privkey:".len() + 64, "{key}");
    let secret = call("gen secret").run().out;
    assert_eq!(hex::decode(secret.trim_end()).unwrap().len(), 32);
    assert_ne!(secret, call("gen secret").run().out);
    assert!(call("generate private-key -o json").run().out.starts_with("{\n\t\"private_key\": \"privkey:"));
}

#[test]
fn every_shell_has_its_completion() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let ran = call(&format!("completion {shell}")).run();
        assert_eq!(ran.code, 0);
        assert!(ran.out.contains("headscale") && ran.out.contains("preauthkeys"), "{shell}");
    }
}

#[test]
fn configtest_says_nothing_when_all_is_well() {
    assert_eq!(call("configtest").run(), prints(""));
}

#[test]
fn configtest_warns_of_plain_http_and_fails_on_bad_values() {
    let ran = call("configtest").env("HEADSCALE_SERVER_URL", "http://head.example.com").run();
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    assert!(ran.err.starts_with("Warning: server_url \"http://head.example.com\" is plain HTTP"), "{}", ran.err);
    let ran = call("configtest").env("HEADSCALE_SERVER_URL", "head.example.com").run();
    let message = "configuration error: loading configuration: the environment: server_url (from HEADSCALE_SERVER_URL) \
                   \"head.example.com\": must start with http:// or https://";
    assert_eq!(ran, fails(message));
    let ran = call("configtest").env("HEADSCALE_POLICY_PATH", "/no/such/policy").run();
    assert!(ran.code == 1 && ran.err.contains("policy.path \"/no/such/policy\": No such file"), "{}", ran.err);
    assert_eq!(call("configtest -c no/such.yaml").run().code, 1);
}

#[test]
fn serve_tells_the_defaults_and_passes_the_configuration_on() {
    let ran = call("serve").env("QUORUMSCALE_CLUSTER_ID", 7).run_with(|config| {
        assert_eq!(config.cluster.id, 7);
        Ok(())
    });
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    assert!(ran.err.contains("data_dir: ") && ran.err.contains("server_url: http://127.0.0.1:8080"), "{}", ran.err);
    let ran = call("serve").run_with(|_| Err("the port is taken".into()));
    assert!(ran.code == 1 && ran.err.ends_with("Error: the port is taken\n"), "{}", ran.err);
}

#[test]
fn an_unknown_command_is_an_error_and_names_what_was_meant() {
    assert_eq!(call("nosuch").run(), fails("unknown command \"nosuch\" for \"headscale\""));
    let ran = call("ndes list").run();
    assert_eq!(ran, fails("unknown command \"ndes\" for \"headscale\"\n\nDid you mean this?\n\tnodes\n"));
    let ran = call("nosuch -o json").run();
    let json = "{\n\t\"error\": \"unknown command \\\"nosuch\\\" for \\\"headscale\\\"\"\n}\n";
    assert_eq!((ran.code, ran.err.as_str()), (1, json));
}

#[test]
fn flags_are_refused_in_cobras_words() {
    let cases = [
        ("nodes list --nosuch", "unknown flag: --nosuch"),
        ("nodes list -x", "unknown shorthand flag: 'x' in -x"),
        ("nodes expire", "required flag(s) \"identifier\" not set"),
        ("auth register", "required flag(s) \"auth-id\", \"user\" not set"),
        ("policy set", "required flag(s) \"file\" not set"),
        (
            "preauthkeys create --user alice",
            "invalid argument \"alice\" for \"-u, --user\" flag: strconv.ParseUint: parsing \"alice\": invalid syntax",
        ),
        (
            "users list -i x",
            "invalid argument \"x\" for \"-i, --identifier\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            "preauthkeys create --reusable=perhaps",
            "invalid argument \"perhaps\" for \"--reusable\" flag: strconv.ParseBool: parsing \"perhaps\": invalid syntax",
        ),
        ("users create", "missing parameters"),
        ("nodes rename -i 1", "missing parameters: the node's new name"),
        ("preauthkeys expire", "missing --id parameter: missing parameters"),
        ("apikeys expire", "either --id or --prefix must be provided: missing parameters"),
        ("apikeys delete -i 1 -p x", "only one of --id or --prefix can be provided: missing parameters"),
        ("users destroy --force", "--name or --identifier flag is required"),
        ("preauthkeys create --user 1 -e bogus", "parsing duration: not a valid duration string: \"bogus\""),
        ("policy set -f nofile", "reading policy file: open nofile: no such file or directory"),
        (
            "nodes expire -i 2 -e bogus",
            "parsing expiry time: parsing time \"bogus\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"bogus\" as \"2006\"",
        ),
    ];
    let nobody = Fake::saying(500, "");
    for (line, message) in cases {
        assert_eq!(call(line).at(&nobody), fails(message), "{line}");
    }
    assert!(nobody.asked().is_empty(), "a server was asked: {:?}", nobody.asked());
}

#[test]
fn a_flag_without_its_value_is_refused() {
    assert_eq!(call("users list --name").run(), fails("flag needs an argument: --name"));
}

#[test]
fn what_is_not_there_yet_says_so() {
    for line in ["mockoidc", "debug create-node --name x", "oauth-clients list", "oauth create -s all", "dumpConfig"] {
        let ran = call(line).run();
        assert!(ran.code == 1 && ran.err.contains("is not there yet"), "{line}: {}", ran.err);
    }
    for flag in ["--bypass-server-and-access-database-directly", "--bypass-grpc-and-access-database-directly"] {
        let ran = call(&format!("policy get {flag}")).run();
        assert!(ran.code == 1 && ran.err.contains(flag) && ran.err.contains("is not there"), "{}", ran.err);
    }
}

#[test]
fn a_load_test_names_what_it_lacks_and_stays_on_this_machine_unless_that_is_wished_for() {
    let cases = [
        ("--auth-key x --servers http://192.0.2.7:8080", "is not on this machine"),
        ("--auth-key x --servers https://127.0.0.1", "must be an http:// URL"),
        ("--auth-key x --servers http://127.0.0.1:1/path", "must be an http:// URL"),
        ("--auth-key x --nodes 0", "--nodes 0: must be between 1 and"),
    ];
    for (flags, message) in cases {
        let ran = call(&format!("debug swarm {flags}")).run();
        assert!(ran.code == 1 && ran.err.contains(message), "{flags}: {}", ran.err);
    }
}

#[test]
fn a_group_alone_or_with_an_unknown_command_prints_its_help() {
    let help = "\
Manage the nodes of the tailnet

Usage:
  headscale nodes [command]

Aliases:
  nodes, node

Available Commands:
  approve-routes Replace the approved routes of a node
  backfillips    Give nodes the addresses that they lack, and take those without a prefix
  delete         Delete a node
  expire         Make a node log in again, now or later
  list           List the nodes
  list-routes    List the routes that nodes offer
  rename         Give a node another name
  tag            Replace the tags of a node

Flags:
  -h, --help   help for nodes

Global Flags:
      --api-key string   API key for --server
  -c, --config string    Configuration file (default: config.yaml in /etc/quorumscale, /etc/headscale, ~/.headscale or here)
      --force            Ask no questions
  -o, --output string    Output format: empty for people, or 'json', 'json-line' or 'yaml'
      --server urls      Servers to ask instead of the socket, separated by commas: the next is tried when one fails

Use \"headscale nodes [command] --help\" for more information about a command.
";
    for line in ["nodes", "nodes nosuch", "node", "nodes --help", "help nodes", "nodes -h"] {
        assert_eq!(call(line).run(), prints(help), "{line}");
    }
    for group in ["users", "preauthkeys", "apikeys", "auth", "policy", "cluster", "generate", "completion"] {
        let ran = call(group).run();
        assert!(ran.code == 0 && ran.out.contains(&format!("headscale {group} [command]")), "{group}: {ran:?}");
    }
}

#[test]
fn a_command_has_help_with_its_flags_and_their_defaults() {
    let ran = call("preauthkeys create --help").run();
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains("  headscale preauthkeys create [flags]\n"), "{}", ran.out);
    assert!(ran.out.contains("Aliases:\n  create, c, new\n"), "{}", ran.out);
    assert!(ran.out.contains("  -e, --expiration string   How long"), "{}", ran.out);
    assert!(ran.out.contains("(default \"1h\")"), "{}", ran.out);
    assert!(call("users create -h").run().out.contains("  headscale users create NAME [flags]\n"));
}

#[test]
fn no_command_at_all_prints_the_help() {
    let ran = call("").run();
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains("Usage:\n  headscale [command]\n"), "{}", ran.out);
    assert!(!ran.out.contains("mockoidc") && !ran.out.contains("dumpConfig"), "{}", ran.out);
}
