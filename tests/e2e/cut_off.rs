//! Replicas that their peers do not hear, or that do not hear their peers: each in a
//! network namespace of its own, which needs root.

use crate::support::{
    Cluster, Fleet, Machine, Network, Session, Settings, Up, Watchers, eventually, request, server_key,
};
use std::time::{Duration, Instant};

/// A replica gives up after about 5 s; asserted at five times that.
const GIVES_UP: Duration = Duration::from_secs(25);
const BACK: Duration = Duration::from_secs(60);
/// Five times what another election may take.
const ELECTED: Duration = Duration::from_secs(10);
/// The default of `offline_grace`.
const GRACE: Duration = Duration::from_secs(15);

/// Three replicas on a network of their own; `None` where that is impossible.
async fn cluster() -> Option<Cluster> {
    if let Err(reason) = Network::new() {
        println!("skipped: namespaces need root, ip and iptables: {reason}");
        return None;
    }
    Some(Cluster::start_with(3, Settings { network: true, ..Settings::default() }).await)
}

fn others(id: u64) -> [u64; 2] {
    let others: Vec<u64> = (1..=3).filter(|other| *other != id).collect();
    [others[0], others[1]]
}

fn term(cluster: &Cluster, by: u64) -> u64 {
    let members = cluster.status(by).expect("a status")["members"].as_array().cloned().unwrap_or_default();
    members.iter().filter_map(|member| member["term"].as_u64()).max().expect("a term")
}

async fn status(url: &str, path: &str) -> u16 {
    request("GET", &format!("{url}{path}"), &[], b"").await.map_or(0, |reply| reply.status)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_cut_off_sends_its_clients_away_and_comes_back_by_itself() {
    let Some(cluster) = cluster().await else { return };
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice, "--reusable"]);
    let server = server_key(&cluster.url(1)).await;
    let watchers = Watchers::start(&cluster, &[1, 2, 3], 9, &key).await;
    let lost = others(cluster.leader(1).await)[0];
    let (url, moving) = (cluster.url(lost), watchers.at(lost));

    let cut = Instant::now();
    cluster.network().isolate(lost);
    eventually("its streams are at other replicas", GIVES_UP, || {
        watchers.ended().len() >= moving.len() && watchers.ended().iter().all(|ended| ended.back.is_some())
    })
    .await;
    for ended in watchers.ended() {
        assert_eq!(ended.replica, lost, "no stream of another replica is dropped: {ended:?}");
        let (at, to) = ended.back.expect("it is back");
        assert_ne!(to, lost, "refused before the upgrade, so the client goes on to the next: {ended:?}");
        assert_eq!(ended.failed, 0, "a healthy one at the first attempt: {ended:?}");
        println!(
            "a stream ended {:.2} s after the cut, and was away for {:.2} s",
            (ended.at - cut).as_secs_f64(),
            (at - ended.at).as_secs_f64()
        );
    }
    let health = request("GET", &format!("{url}/health"), &[], b"").await.expect("an answer");
    assert_eq!((health.status, health.json()["status"].as_str()), (503, Some("fail")), "{health:?}");
    assert_eq!(status(&url, "/readyz").await, 503);
    assert_eq!(status(&url, "/livez").await, 200);
    let machine = Machine::new("late");
    let refused = Session::open(cluster.address(lost), &server, &machine).await.err().expect("no upgrade");
    assert!(refused.contains("503"), "{refused}");
    let begun = Instant::now();
    let refused = cluster.fails(lost, &["users", "create", "bob"]);
    assert!(refused.contains("majority"), "a write is refused with the reason: {refused}");
    assert!(begun.elapsed() < GIVES_UP, "and not hung");
    // The others have a majority.
    cluster.create_user(others(lost)[0], "carol");

    cluster.network().heal();
    let ready = || cluster.run(lost, &["health"]).status.success();
    eventually("it is well again by itself", BACK, ready).await;
    assert_eq!(status(&url, "/readyz").await, 200);
    assert!(machine.register(cluster.address(lost), &server, &key).await.is_ok_and(|r| r.accepted()));
    let users = cluster.json(lost, &["users", "list"]);
    let names: Vec<_> = users.as_array().into_iter().flatten().filter_map(|user| user["name"].as_str()).collect();
    assert_eq!(names, ["alice", "carol"], "what was refused did not happen, what was not did");
    let marks = watchers.false_marks(GRACE);
    assert!(marks.is_empty(), "nobody was shown offline: {marks:#?}");
    assert_eq!(watchers.wrong(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_cannot_hear_its_followers_gives_way() {
    let Some(cluster) = cluster().await else { return };
    let leader = cluster.leader(1).await;
    let [one, two] = others(leader);
    cluster.network().deafen(leader);
    eventually("somebody else leads", ELECTED, || {
        cluster.status(one).is_some_and(|status| status["leader"].as_u64().is_some_and(|next| next != leader))
    })
    .await;
    cluster.create_user(two, "alice");
    cluster.network().heal();
    eventually("the old one has what happened meanwhile", BACK, || {
        let users = cluster.run(leader, &["users", "list", "-o", "json"]);
        String::from_utf8_lossy(&users.stdout).contains("alice")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_comes_and_goes_starts_no_election_and_drops_no_stream() {
    let Some(cluster) = cluster().await else { return };
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice, "--reusable"]);
    let leader = cluster.leader(1).await;
    let [flapping, witness] = others(leader);
    let watchers = Watchers::start(&cluster, &[leader, witness], 6, &key).await;
    let before = term(&cluster, witness);
    // Longer and shorter than an election, in both directions and in one.
    for round in 0..12 {
        match round % 3 {
            0 => cluster.network().isolate(flapping),
            1 => cluster.network().deafen(flapping),
            _ => cluster.network().mute(flapping),
        }
        tokio::time::sleep(Duration::from_millis(200 + 150 * (round % 5))).await;
        cluster.network().heal();
        tokio::time::sleep(Duration::from_millis(100 + 100 * (round % 4))).await;
    }
    assert_eq!(cluster.leader(witness).await, leader, "the leader still leads");
    eventually("it hears of the leader again", BACK, || {
        cluster.status(flapping).is_some_and(|status| status["leader"] == leader)
    })
    .await;
    assert_eq!(term(&cluster, witness), before, "no term was spent");
    assert!(watchers.ended().is_empty(), "no stream was dropped: {:#?}", watchers.ended());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_that_do_not_hear_each_other_still_follow_the_third() {
    let Some(cluster) = cluster().await else { return };
    let leader = cluster.leader(1).await;
    let [one, two] = others(leader);
    let before = term(&cluster, leader);
    cluster.network().part(one, two);
    tokio::time::sleep(Duration::from_secs(4)).await;
    cluster.create_user(one, "alice");
    cluster.create_user(two, "bob");
    assert_eq!(cluster.leader(one).await, leader);
    assert_eq!(cluster.leader(two).await, leader);
    assert_eq!(term(&cluster, leader), before, "no term was spent");
}

/// The Go client takes the first of its candidates that completes the upgrade.
#[tokio::test(flavor = "multi_thread")]
async fn a_stock_client_whose_plan_names_a_replica_without_a_quorum_first_reaches_another_at_once() {
    let Some(cluster) = cluster().await else { return };
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice, "--reusable"]);
    // Clients have orders of their own: of six, two have the lost one first.
    let watchers = Watchers::start(&cluster, &[1, 2, 3], 6, &key).await;
    let fleet = Fleet::start(&[]);
    let lost = others(cluster.leader(1).await)[0];
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        let node = fleet.up(name, Up::at(cluster.url(lost)).key(&key)).await;
        node.running().await;
        nodes.push(node);
    }
    cluster.network().isolate(lost);
    let survivor = others(lost)[0];
    eventually("it has sent its clients away", GIVES_UP, || cluster.log(lost).contains("no quorum")).await;
    // A stock client that failed once waits; one that does not is back long before the grace.
    tokio::time::sleep(GRACE).await;
    for node in &nodes {
        cluster.shows_online(survivor, node.name(), true, Duration::from_secs(1)).await;
        let peers = node.status().await["peers"].as_array().cloned().unwrap_or_default();
        assert!(peers.iter().all(|peer| peer["online"] == true), "{} sees all as online: {peers:?}", node.name());
    }
    let marks = watchers.false_marks(GRACE);
    assert!(marks.is_empty(), "nobody was shown offline: {marks:#?}");
    let log = fleet.log();
    let failed: Vec<_> = log.lines().filter(|line| line.contains("mapRoutine") && line.contains("backoff:")).collect();
    assert!(failed.len() <= nodes.len(), "one pause after its stream's end, and no other: {failed:#?}");
}
