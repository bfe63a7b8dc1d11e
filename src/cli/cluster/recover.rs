//! `cluster recover`: a new cluster out of a survivor, when the majority is gone for good.

use super::ask_status;
use crate::cli::context::Context;
use crate::cli::error::Error;
use crate::cli::table::{Cell, Table};
use crate::cluster::recover::{Plan, Recovering, Survivors};
use crate::config;
use crate::state::ReplicaId;
use serde_json::json;

pub(super) async fn run(context: &mut Context<'_>) -> Result<(), Error> {
    let config = config::load(context.globals.config.as_deref(), &context.surroundings)
        .map_err(|error| Error::said(format!("loading configuration: {error}")))?
        .config;
    refuse_while_it_runs(context, &config).await?;
    let id = config.cluster.id;
    let own = Survivors {
        id: ReplicaId(id),
        data_dir: config.data_dir.clone(),
        address: config.cluster.advertise_addr.clone(),
        secret_path: config.cluster.secret_path.clone(),
        previous_secret_path: config.cluster.previous_secret_path.clone(),
    };
    let recovering = Recovering::survey(own).await.map_err(|error| Error::said(error.to_string()))?;
    let plan = recovering.plan().clone();
    context.say(describe(&plan, context.terminal.colour).trim_end());
    if let Some(refusal) = plan.refusal() {
        return Err(Error::said(refusal));
    }
    if !context.confirm(&format!("Are all others gone for good, and should replica {id} become a new cluster?")) {
        return context.show("Cluster not recovered", &json!({ "Result": "Cluster not recovered", "plan": plan }));
    }
    let (cluster, copy) = recovering.run().await.map_err(|error| Error::said(error.to_string()))?;
    let line = format!(
        "Recovered as cluster {cluster}; the data before is in {}. Next: start replica {id}, then add new replicas with \
         numbers that were never used: \"{1} cluster add ID ADDRESS\", \"{1} cluster promote ID\"",
        copy.display(),
        context.program
    );
    context.show(line, &json!({ "cluster_id": cluster, "copy": copy, "plan": plan }))
}

/// A server that runs knows more than its data directory tells.
async fn refuse_while_it_runs(context: &Context<'_>, config: &config::Config) -> Result<(), Error> {
    if std::os::unix::net::UnixStream::connect(&config.unix_socket).is_err() {
        return Ok(());
    }
    let Ok(status) = ask_status(&context.client()?).await else { return Ok(()) };
    let id = config.cluster.id;
    let well: Vec<String> = status.members.iter().filter(|m| m.healthy).map(|m| m.id.to_string()).collect();
    Err(Error::said(match status.has_quorum {
        true => format!(
            "the cluster has a quorum (replicas {}): there is nothing to recover; replace a dead replica by \"{1} cluster \
             remove\" and \"{1} cluster add\"",
            well.join(", "),
            context.program
        ),
        false => format!(
            "replica {id} runs, and reaches no quorum: if the others are gone for good, stop it first, then run this again"
        ),
    }))
}

/// What each member has, and what would become of it.
fn describe(plan: &Plan, colour: bool) -> String {
    let mut table = Table::new(&["ID", "ADDRESS", "VOTES", "ALIVE", "LAST TERM", "LAST ENTRY", "APPLIED"]);
    let number = |number: Option<u64>| number.map_or("-".into(), |number| number.to_string());
    for member in &plan.members {
        table.row(vec![
            member.id.to_string().into(),
            member.address.as_str().into(),
            if member.voter { "yes" } else { "no" }.into(),
            Cell::good(if member.alive { "alive" } else { "gone" }, member.alive),
            number(member.last_term).into(),
            number(member.last_index).into(),
            number(member.applied).into(),
        ]);
    }
    let mut text = table.render(colour) + "\n";
    for member in &plan.members {
        if let Some(problem) = &member.problem {
            text += &format!("{problem}\n");
        }
    }
    if plan.refusal().is_some() {
        return text;
    }
    let (id, last) = (plan.replica, plan.committed + plan.uncertain);
    text += &format!(
        "\nThe plan: replica {id} becomes a new cluster of one. It tolerates no failure until new replicas are added.\n\
         Kept: everything up to log entry {last}. It knew up to entry {} to be committed; the {} after that may or may not \
         have been acknowledged.\n\
         Lost: what the others acknowledged after entry {last}, if anything. Nobody who is alive can tell.\n\
         Never again: the numbers of the others. If one comes back, it is refused, and stops.\n",
        plan.committed, plan.uncertain
    );
    for member in plan.members.iter().filter(|member| member.alive && member.id != id) {
        text += &format!(
            "Replica {} survived too: its data is not used. Remove it, and add it under a new number.\n",
            member.id
        );
    }
    text
}
