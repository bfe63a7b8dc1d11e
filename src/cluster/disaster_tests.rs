//! What is left when a cluster is lost: backups and survivors. Over real disks.

use super::backup::{Lock, Restoring, Saving, Target};
use super::recover::{RecoverError, Recovering, Survivors};
use super::tests::{Field, create, eventually};
use super::*;
use crate::sensitive::Sensitive;
use std::path::PathBuf;
use std::time::Duration;

async fn save(cluster: &Cluster, path: PathBuf) -> backup::Contents {
    let view = cluster.linearizable().await.unwrap();
    let mut parts = cluster.backup(view).unwrap();
    let mut saving = Saving::begin(&path, lock()).unwrap();
    while let Some(part) = parts.recv().await {
        saving.write(&part.unwrap()).unwrap();
    }
    saving.finish().unwrap()
}

fn lock() -> Lock {
    Lock::Key(Sensitive::new([7; 32]))
}

/// The hashes of what users care about.
fn hashes(contents: &backup::Contents) -> Vec<(String, String)> {
    let own = ["clock", "server_keys", "replicas", "incarnations", "outcomes", "sessions"];
    let kinds = contents.kinds.iter().filter(|kind| !own.contains(&kind.name.as_str()));
    kinds.map(|kind| (kind.name.clone(), kind.hash.clone())).collect()
}

fn survivor(field: &Field, id: u64) -> Survivors {
    Survivors {
        id: ReplicaId(id),
        data_dir: field.data_dir(id),
        address: field.address(id),
        secret_path: field.secret_path(),
        previous_secret_path: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_becomes_a_new_cluster_with_another_secret_that_is_the_same_server() {
    let mut field = Field::three().await;
    for n in 0..80 {
        create(field.at(n % 3 + 1), &format!("user{n}")).await;
    }
    let file = field.dir.path().join("backup");
    let saved = save(field.at(2), file.clone()).await;
    create(field.at(1), "too-late").await;
    let noise = field.at(1).noise_key().unwrap();
    let old = field.at(1).status().await.cluster_id;
    for id in [1, 2, 3] {
        field.stop(id).await;
        std::fs::remove_dir_all(field.data_dir(id)).unwrap();
    }
    std::fs::remove_file(field.secret_path()).unwrap();

    let target = Target {
        id: ReplicaId(1),
        data_dir: field.data_dir(1),
        address: field.address(1),
        secret_path: field.secret_path(),
    };
    let new = Restoring::read(&file, &lock(), target).unwrap().run().await.unwrap();
    assert_ne!(new, old);
    field.start_all(&[1]).await;
    assert_eq!(field.at(1).noise_key().unwrap(), noise);
    let view = field.at(1).linearizable().await.unwrap();
    assert!(view.users().count() == 80 && view.user_by_name("too-late").is_none());
    let again = save(field.at(1), field.dir.path().join("again")).await;
    assert_eq!(hashes(&again), hashes(&saved));

    field.start_all(&[2, 3]).await;
    for id in [2, 3] {
        field.at(1).add(ReplicaId(id), field.address(id)).await.unwrap();
        field.at(1).promote(ReplicaId(id)).await.unwrap();
    }
    create(field.at(3), "afterwards").await;
    assert_eq!(field.at(2).linearizable().await.unwrap().users().count(), 81);
    assert_eq!(field.at(3).noise_key().unwrap(), noise);
    assert!(field.at(2).verify().await.unwrap().equal);
    let leader = field.leader_of(&[1, 2, 3]).await;
    field.stop(leader).await;
    let left = leader % 3 + 1;
    create(field.at(left), "later").await;
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_goes_on_with_everything_that_was_acknowledged() {
    let mut field = Field::new(5, 3);
    field.start_all(&[1, 2, 3]).await;
    for n in 0..120 {
        create(field.at(n % 3 + 1), &format!("user{n}")).await;
    }
    let noise = field.at(1).noise_key().unwrap();
    let error = Recovering::survey(survivor(&field, 1)).await.err().unwrap();
    assert!(matches!(error, RecoverError::InUse { .. }), "{error}");
    let everything = |field: &Field| field.at(1).view().users().count() == 120;
    eventually("replica 1 has everything", || everything(&field)).await;

    field.stop(1).await;
    let plan = Recovering::survey(survivor(&field, 1)).await.unwrap();
    let refused = plan.run().await.err().unwrap().to_string();
    assert!(refused.contains("there is a quorum: replicas 2 (") && refused.contains("start replica 1"), "{refused}");
    field.stop(2).await;
    let one = Recovering::survey(survivor(&field, 1)).await.unwrap().plan().refusal().unwrap();
    assert!(one.contains("replica 3 (") && one.contains("answers"), "with this one it is a quorum: {one}");
    field.stop(3).await;

    let recovering = Recovering::survey(survivor(&field, 1)).await.unwrap();
    assert_eq!(recovering.plan().refusal(), None, "{:?}", recovering.plan());
    let (cluster, copy) = recovering.run().await.unwrap();
    assert!(copy.join("store").exists());
    field.start_all(&[1]).await;
    let status = field.at(1).status().await;
    assert_eq!((status.cluster_id, status.members.len()), (cluster, 1));
    assert_eq!(field.at(1).linearizable().await.unwrap().users().count(), 120);
    assert_eq!(field.at(1).noise_key().unwrap(), noise);

    let error = field.at(1).add(ReplicaId(2), field.address(2)).await.unwrap_err().to_string();
    assert!(error.contains("number 2 belonged to a replica that was removed"), "{error}");
    field.start_all(&[4, 5]).await;
    for id in [4, 5] {
        field.at(1).add(ReplicaId(id), field.address(id)).await.unwrap();
        field.at(1).promote(ReplicaId(id)).await.unwrap();
    }
    create(field.at(5), "afterwards").await;
    assert_eq!(field.at(4).linearizable().await.unwrap().users().count(), 121);
    assert!(field.at(4).verify().await.unwrap().equal);
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_is_changed_while_three_replicas_run_and_write() {
    let mut field = Field::three().await;
    create(field.at(1), "alice").await;
    let refused = field.at(1).rotate_secret().await.unwrap_err().to_string();
    assert!(refused.contains("replica 1 has one secret"), "{refused}");
    let (old, new) = (field.secret_path(), field.dir.path().join("new-secret"));
    std::fs::write(&new, "5".repeat(64)).unwrap();

    let both = |field: &Field, id| Options {
        secret_path: new.clone(),
        previous_secret_path: Some(old.clone()),
        ..field.options(id)
    };
    let restart = async |field: &mut Field, id: u64, options: Options| {
        field.stop(id).await;
        let cluster = field.try_start(options).await.unwrap();
        field.running[usize::try_from(id).unwrap() - 1] = Some(cluster);
        create(field.at(id % 3 + 1), &format!("user{id}-{}", field.at(id).incarnation())).await;
    };
    for id in [1, 2] {
        let options = both(&field, id);
        restart(&mut field, id, options).await;
    }
    let refused = field.at(1).rotate_secret().await.unwrap_err().to_string();
    assert!(refused.contains("replica 3 accepts"), "{refused}");
    let options = both(&field, 3);
    restart(&mut field, 3, options).await;

    let before = field.at(1).status().await;
    let rotation = field.at(2).rotate_secret().await.unwrap();
    assert_eq!(rotation.pending, [0; 0]);
    let after = field.at(1).status().await;
    assert!(before.members.iter().all(|m| m.secret != rotation.secret), "{before:?}");
    assert!(after.members.iter().all(|m| m.secret == rotation.secret), "{after:?}");
    assert!(after.warnings.iter().any(|w| w.contains("remove cluster.previous_secret_path")), "{after:?}");
    for id in [1, 2, 3] {
        let options = Options { secret_path: new.clone(), ..field.options(id) };
        restart(&mut field, id, options).await;
    }
    create(field.at(3), "bob").await;
    field.stop(2).await;
    let error = field.try_start(field.options(2)).await.err().unwrap().to_string();
    assert!(error.contains("do not open with the secret"), "the old secret alone: {error}");
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_autopilot_removes_a_dead_replica_once_another_has_taken_its_place() {
    let mut field = Field::new(4, 3);
    let options = |field: &Field, id| Options {
        autopilot: Autopilot {
            cleanup_dead_servers: true,
            dead_server_last_contact_threshold: Duration::from_secs(2),
            ..Autopilot::default()
        },
        ..field.options(id)
    };
    let started = [1, 2, 3, 4].map(|id| field.try_start(options(&field, id)));
    let started = futures::future::join_all(started).await;
    field.running = started.into_iter().map(|cluster| Some(cluster.unwrap())).collect();
    create(field.at(1), "alice").await;
    let leader = field.leader_of(&[1, 2, 3]).await;
    let dead = leader % 3 + 1;
    field.stop(dead).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let members = |status: ClusterStatus| status.members.iter().map(|member| member.id).collect::<Vec<_>>();
    assert!(members(field.at(leader).status().await).contains(&dead), "two voters would tolerate no failure");

    field.at(leader).add(ReplicaId(4), field.address(4)).await.unwrap();
    field.at(leader).promote(ReplicaId(4)).await.unwrap();
    let begun = std::time::Instant::now();
    while members(field.at(leader).status().await).contains(&dead) {
        assert!(begun.elapsed() < Duration::from_secs(60), "the dead replica is removed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(members(field.at(leader).status().await).len(), 3);
    field.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_voter_is_not_removed() {
    let mut field = Field::new(1, 1);
    field.start_all(&[1]).await;
    let error = field.at(1).remove(ReplicaId(1)).await.unwrap_err().to_string();
    assert!(error.contains("only voter"), "{error}");
    create(field.at(1), "alice").await;
    field.stop_all().await;
}
