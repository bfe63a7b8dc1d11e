//! The replicas: at a glance, and what changes them.

use super::*;
use crate::cluster::{ClusterStatus, MemberStatus, Problem, ProblemKind, Verification, VerifiedReplica};

fn member(id: u64, role: &str, healthy: bool) -> MemberStatus {
    let known = |number| healthy.then_some(number);
    MemberStatus {
        id,
        address: format!("127.0.0.{id}:7946"),
        role: role.into(),
        term: known(4),
        applied: known(1200 - id),
        lag: known(id - 1),
        clients: known(10),
        version: if healthy { "0.1.0".into() } else { String::new() },
        secret: if healthy { "0a1b2c3d".into() } else { String::new() },
        healthy,
        problems: Vec::new(),
    }
}

fn status(leader: Option<u64>, failures_tolerated: usize, members: Vec<MemberStatus>) -> ClusterStatus {
    ClusterStatus {
        cluster_id: "c".into(),
        answered_by: 1,
        leader,
        has_quorum: leader.is_some(),
        failures_tolerated,
        members,
        warnings: Vec::new(),
        writes_refused: None,
    }
}

fn serving(status: &ClusterStatus) -> Fake {
    let body = serde_json::to_string(status).unwrap();
    Fake::new(move |asked| match asked.line.as_str() {
        "GET /api/v1/cluster" => (200, body.clone()),
        "POST /api/v1/cluster/leader" => (200, r#"{"leader":2}"#.into()),
        _ => (200, "{}".into()),
    })
}

fn three(third_is_well: bool) -> ClusterStatus {
    let members = vec![member(1, "leader", true), member(2, "follower", true), member(3, "follower", third_is_well)];
    status(Some(1), usize::from(third_is_well), members)
}

#[test]
fn a_healthy_cluster_says_so_first() {
    let expected = "\
healthy: 3 of 3 replicas, leader 1, tolerates 1 failure

ID | ADDRESS        | ROLE     | HEALTH  | TERM | APPLIED | LAG | CLIENTS | VERSION | SECRET  
1  | 127.0.0.1:7946 | leader   | healthy | 4    | 1199    | 0   | 10      | 0.1.0   | 0a1b2c3d
2  | 127.0.0.2:7946 | follower | healthy | 4    | 1198    | 1   | 10      | 0.1.0   | 0a1b2c3d
3  | 127.0.0.3:7946 | follower | healthy | 4    | 1197    | 2   | 10      | 0.1.0   | 0a1b2c3d
";
    assert_eq!(call("cluster status").at(&serving(&three(true))), prints(expected));
}

#[test]
fn a_degraded_cluster_says_what_is_missing_and_still_succeeds() {
    let mut degraded = three(false);
    degraded.warnings.push("replica 2 runs on another base domain".into());
    let ran = call("cluster status").at(&serving(&degraded));
    assert_eq!(ran.code, 0);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines[0], "DEGRADED: 2 of 3 replicas, leader 1, tolerates no failure");
    assert_eq!(lines[1], "Next: start or reconnect replica 3 (127.0.0.3:7946), and look at the log there.");
    assert_eq!(
        lines[6],
        "3  | 127.0.0.3:7946 | follower | unhealthy | -    | -       | -   | -       | -       | -       "
    );
    assert_eq!(lines[8], "Warning: replica 2 runs on another base domain");
}

#[test]
fn what_is_wrong_with_a_machine_shows_beside_it() {
    let mut ill = three(true);
    let text = "its disk has 12 MiB left, less than cluster.disk_reserve (256 MiB): free space there";
    ill.members[1].problems = vec![Problem { kind: ProblemKind::DiskLow, text: text.into() }];
    ill.members[2].problems = vec![Problem { kind: ProblemKind::ClockOff, text: "its clock is off".into() }];
    ill.warnings.push(format!("replica 2: {text}"));
    let ran = call("cluster status").at(&serving(&ill));
    assert_eq!(ran.code, 0, "it can write");
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines[0], "DEGRADED: 1 of 3 replicas, leader 1, tolerates 1 failure");
    assert!(lines[4].contains("| disk-low"), "{}", ran.out);
    assert!(lines[5].contains("| clock-off"), "{}", ran.out);
    assert_eq!(lines[7], format!("Warning: replica 2: {text}"));
    let json: serde_json::Value = serde_json::from_str(&call("cluster status -o json").at(&serving(&ill)).out).unwrap();
    assert_eq!(json["members"][1]["problems"][0], serde_json::json!({ "kind": "disk-low", "text": text }));
}

#[test]
fn a_cluster_whose_leader_takes_no_writes_says_why_and_fails() {
    let mut halted = three(true);
    halted.writes_refused = Some("the replicas differ, and no majority of them has the same".into());
    let ran = call("cluster status").at(&serving(&halted));
    assert_eq!(ran.code, 1);
    let expected = "NO WRITES: leader 1 takes none, reads go on; 3 of 3 replicas are well\n\
                    Next: the replicas differ, and no majority of them has the same\n";
    assert!(ran.out.starts_with(expected), "{}", ran.out);
}

#[test]
fn a_cluster_without_quorum_says_so_and_fails() {
    let members = vec![member(1, "follower", true), member(2, "follower", false), member(3, "follower", false)];
    let fake = serving(&status(None, 0, members));
    let ran = call("cluster status").at(&fake);
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
    let expected = "NO QUORUM: 1 of 3 replicas healthy, nothing can be written\nNext: start or reconnect replicas 2 \
                    (127.0.0.2:7946), 3 (127.0.0.3:7946), and look at the log there.\n";
    assert!(ran.out.starts_with(expected), "{}", ran.out);
    assert!(call("cluster status").in_colour().at(&fake).out.starts_with("\x1b[91mNO QUORUM"));
    assert_eq!(call("cluster status -o json").at(&fake).code, 1);
}

#[test]
fn the_status_in_json_is_the_apis() {
    let json: serde_json::Value =
        serde_json::from_str(&call("cluster status -o json").at(&serving(&three(true))).out).unwrap();
    assert_eq!((&json["leader"], &json["failures_tolerated"]), (&1.into(), &1.into()));
    let expected = serde_json::json!({
        "id": 2, "address": "127.0.0.2:7946", "role": "follower", "term": 4, "applied": 1198, "lag": 1, "clients": 10,
        "version": "0.1.0", "secret": "0a1b2c3d", "healthy": true, "problems": []
    });
    assert_eq!(json["members"][1], expected);
}

#[test]
fn a_learner_that_is_well_can_be_promoted_next() {
    let mut with_learner = three(true);
    with_learner.members.push(member(4, "learner", true));
    let ran = call("cluster status").at(&serving(&with_learner));
    assert!(ran.out.contains("\nNext: \"headscale cluster promote 4\" lets replica 4 vote.\n"), "{}", ran.out);
}

#[test]
fn replicas_are_added_promoted_and_given_the_lead() {
    let cases = [
        ("cluster add 4 127.0.0.4:7946", "POST /api/v1/cluster/member {\"address\":\"127.0.0.4:7946\",\"id\":4}"),
        ("cluster promote 4", "POST /api/v1/cluster/member/4/promote {}"),
        ("cluster transfer-leader 2", "POST /api/v1/cluster/leader {\"id\":2}"),
        ("cluster transfer-leader", "POST /api/v1/cluster/leader {\"id\":null}"),
    ];
    for (line, request) in cases {
        let fake = serving(&three(true));
        assert_eq!(call(line).at(&fake).code, 0, "{line}");
        let asked = fake.asked_once();
        assert_eq!(format!("{} {}", asked.line, asked.body), request);
    }
    assert_eq!(call("cluster transfer-leader").at(&serving(&three(true))), prints("Replica 2 leads\n"));
    assert_eq!(call("cluster promote").run(), fails("missing parameters: the replica's ID"));
    assert!(call("cluster add 4").run().err.contains("missing parameters"));
    assert!(call("cluster add four x").run().err.contains("strconv.ParseUint: parsing \"four\""));
}

#[test]
fn removing_a_replica_says_what_is_left_and_asks() {
    let fake = serving(&three(true));
    let ran = call("cluster remove 3").answering("n\n").at(&fake);
    let said = "Without replica 3 there are 2 voters, 2 of them healthy: the cluster tolerates no failure.\nDo you want to \
                remove replica 3? [y/n] ";
    assert_eq!(ran, Ran { code: 0, out: "Replica not removed\n".into(), err: said.into() });
    assert_eq!(fake.asked().len(), 1);
    let ran = call("cluster remove 3 --force").at(&fake);
    assert_eq!((ran.code, ran.out.as_str()), (0, "Replica 3 removed\n"));
    assert_eq!(fake.asked()[2].line, "DELETE /api/v1/cluster/member/3");
    let ran = call("cluster remove 9 --force").at(&fake);
    assert_eq!(ran, fails("there is no replica 9: see \"cluster status\""));
    let ran = call("cluster remove 2").at(&serving(&three(false)));
    assert!(ran.err.contains("2 voters, 1 of them healthy: the cluster would have NO QUORUM"), "{}", ran.err);
}

#[test]
fn the_members_are_the_statuss_list() {
    let members = call("cluster members").at(&serving(&three(false)));
    assert_eq!(members.code, 0);
    assert!(members.out.starts_with("ID | ADDRESS        | ROLE     | HEALTH"), "{}", members.out);
    assert_eq!(members.out.lines().count(), 4);
    let json = call("cluster members -o json").at(&serving(&three(true))).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.as_array().map(Vec::len), Some(3));
}

fn verifying(verification: &Verification) -> Fake {
    let body = serde_json::to_string(verification).unwrap();
    Fake::new(move |asked| match asked.line.as_str() {
        "GET /api/v1/cluster/verify" => (200, body.clone()),
        _ => (404, "{}".into()),
    })
}

fn verified(id: u64) -> VerifiedReplica {
    VerifiedReplica { id, records: Some(20), hash: "0123456789abcdef0123".into(), ..VerifiedReplica::default() }
}

#[test]
fn a_verification_succeeds_only_if_all_were_compared_and_are_equal() {
    let all = vec![verified(1), verified(2), verified(3)];
    let mut verification = Verification { index: 99, equal: true, majority: true, replicas: all };
    let expected = "\
equal: 3 of 3 replicas, at log entry 99

ID | RECORDS | HASH             | MEMORY | DISK        
1  | 20      | 0123456789abcdef | equal  | as in memory
2  | 20      | 0123456789abcdef | equal  | as in memory
3  | 20      | 0123456789abcdef | equal  | as in memory
";
    assert_eq!(call("cluster verify").at(&verifying(&verification)), prints(expected));

    verification.equal = false;
    verification.replicas[1].differs = vec!["nodes".into(), "users".into()];
    verification.replicas[2].differs_on_disk = vec!["users".into()];
    let ran = call("cluster verify").at(&verifying(&verification));
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
    assert!(ran.out.starts_with("DIFFERENT: 2 of 3 replicas, at log entry 99\n"), "{}", ran.out);
    assert!(ran.out.contains("| differs: nodes, users | as in memory"), "{}", ran.out);
    assert!(ran.out.contains("| equal                 | differs: users"), "{}", ran.out);
    assert_eq!(call("cluster verify -o json").at(&verifying(&verification)).code, 1);

    let gone = VerifiedReplica { id: 2, problem: Some("it is not running".into()), ..VerifiedReplica::default() };
    let replicas = vec![verified(1), gone, verified(3)];
    let verification = Verification { index: 99, equal: false, majority: true, replicas };
    let ran = call("cluster verify").at(&verifying(&verification));
    assert_eq!(ran.code, 1);
    assert!(ran.out.starts_with("INCOMPLETE: 2 of 3 replicas could be compared, and are equal"), "{}", ran.out);
    assert!(ran.out.ends_with("\nWarning: replica 2: it is not running\n"), "{}", ran.out);
}

#[test]
fn the_last_voter_is_not_removed() {
    let fake = serving(&status(Some(1), 0, vec![member(1, "leader", true), member(2, "learner", true)]));
    let ran = call("cluster remove 1 --force").at(&fake);
    assert_eq!(ran, fails("replica 1 is the only voter, and a cluster needs one: add another first"));
    assert_eq!(fake.asked().len(), 1, "the server was only asked how it is");
    assert_eq!(call("cluster remove 2 --yes").at(&fake).code, 0, "a learner goes, and --yes is --force");
}

#[test]
fn a_secret_that_is_rotated_says_what_is_next() {
    let fake = Fake::new(|_| (200, r#"{"secret":"0a1b2c3d","pending":[]}"#.into()));
    let ran = call("cluster rotate-secret").at(&fake);
    assert!(ran.out.contains("The secret 0a1b2c3d is in use. Next: on each replica, remove"), "{}", ran.out);
    assert_eq!(fake.asked_once().line, "POST /api/v1/cluster/secret");
    let fake = Fake::new(|_| (200, r#"{"secret":"0a1b2c3d","pending":[2,3]}"#.into()));
    assert!(call("cluster rotate-secret").at(&fake).out.contains("Replicas 2, 3 do not use it yet"));
}

#[test]
fn a_snapshot_needs_a_file_and_a_passphrase_that_is_not_typed_in_the_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    assert_eq!(call("cluster snapshot save").run(), fails("missing parameters: the snapshot's FILE"));
    std::fs::write(path("short"), "secret\n").unwrap();
    let line = format!("cluster snapshot save {} --passphrase-file {}", path("new"), path("short"));
    assert_eq!(call(&line).run(), fails("the passphrase has 6 characters, and needs at least 8"));
    let line = format!("cluster snapshot save {} --key-file {}", path("new"), path("short"));
    assert!(call(&line).run().err.contains("not a key (expected 64 hex digits, got 6 characters)"));
    std::fs::write(path("key"), "5".repeat(64)).unwrap();
    let line = format!("cluster snapshot inspect {} --key-file {}", path("short"), path("key"));
    assert!(call(&line).run().err.contains("short is no backup"));
    let line = format!("cluster snapshot save {} --key-file {}", path("short"), path("key"));
    assert!(call(&line).run().err.contains("is there already and is no backup"));
    let server = "--server http://192.0.2.1:1 --api-key x";
    let line = format!("{server} cluster snapshot save {} --key-file {}", path("new"), path("key"));
    assert!(call(&line).run().err.contains("in the clear: use https"));
    assert_eq!(std::fs::read_to_string(path("short")).unwrap(), "secret\n");
    assert!(!dir.path().join("new").exists());
}
