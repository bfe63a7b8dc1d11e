//! `policy test` and `policy explain`.

use super::super::context::Context;
use super::super::error::Error;
use super::super::table::{Cell, Table};
use super::read;
use crate::policy::explain::{
    AccessExplanation, End, Explanation, NearMiss, Place, RouteExplanation, RuleMatch, SshExplanation, TagExplanation,
    Trials, Verdict,
};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Longer rules are cut where people read them; JSON has them whole.
const SHOWN_LINES: usize = 12;

#[derive(Debug, Args)]
pub(super) struct Tested {
    /// File with a policy to ask instead of the one in force
    #[arg(short, long, value_name = "string")]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Asked {
    #[arg(value_name = "QUESTION", num_args = 0..=3)]
    words: Vec<String>,
    /// IP protocol: tcp, udp, icmp, sctp or a number
    #[arg(long, value_name = "string", default_value = "tcp")]
    proto: String,
    /// File with a policy to ask instead of the one in force
    #[arg(short, long, value_name = "string")]
    file: Option<PathBuf>,
}

/// Fails when a test does.
pub(super) async fn test(context: &mut Context<'_>, tested: Tested) -> Result<(), Error> {
    let body = with_policy(json!({}), tested.file)?;
    let trials: Trials = context.client()?.post("testing policy", "/api/v1/policy/test", &body).await?;
    if trials.tests.is_empty() {
        return context.show("The policy has no tests: add \"tests\" or \"sshTests\" to it", &trials);
    }
    let mut table = Table::new(&["Test", "Line", "Source", "Expected", "What", "Result"]);
    for test in &trials.tests {
        let result = if test.passed { "passed".to_owned() } else { format!("FAILED: {}", test.fault) };
        table.row(vec![
            test.test.clone().into(),
            test.line.to_string().into(),
            test.source.clone().into(),
            test.expected.clone().into(),
            test.what.clone().into(),
            Cell::good(result, test.passed),
        ]);
    }
    let table = table.render(context.terminal.colour);
    context.show(format!("{table}{} passed, {} failed", trials.passed, trials.failed), &trials)?;
    if trials.failed == 0 { Ok(()) } else { Err(Error::Shown) }
}

pub(super) async fn explain(context: &mut Context<'_>, asked: Asked) -> Result<(), Error> {
    let words: Vec<&str> = asked.words.iter().map(String::as_str).collect();
    let (path, body) = match words.as_slice() {
        ["ssh", source, destination] => ("ssh", json!({ "source": source, "destination": destination })),
        ["route", prefix, node] => ("route", json!({ "prefix": prefix, "node": node })),
        ["tag", tag, user] => ("tag", json!({ "tag": tag, "user": user })),
        [source, destination] => {
            ("access", json!({ "source": source, "destination": destination, "protocol": asked.proto }))
        }
        _ => {
            let program = &context.program;
            return Err(Error::said(format!(
                "what is to be explained? Write one of\n  {program} policy explain SRC DST:PORT [--proto PROTOCOL]\n  \
                 {program} policy explain ssh SRC USER@DST\n  {program} policy explain route PREFIX NODE\n  \
                 {program} policy explain tag TAG USER"
            )));
        }
    };
    let body = with_policy(body, asked.file)?;
    let path = format!("/api/v1/policy/explain/{path}");
    let explanation: Explanation = context.client()?.post("explaining policy", &path, &body).await?;
    let text = match &explanation {
        Explanation::Access(answer) => access(answer),
        Explanation::Ssh(answer) => ssh(answer),
        Explanation::Route(answer) => route(answer),
        Explanation::Tag(answer) => tag(answer),
    };
    context.show(text.trim_end(), &explanation)
}

fn with_policy(mut body: Value, file: Option<PathBuf>) -> Result<Value, Error> {
    if let Some(file) = file {
        body["policy"] = json!(read(&file)?);
    }
    Ok(body)
}

fn access(answer: &AccessExplanation) -> String {
    let AccessExplanation { source, destination, protocol, port, .. } = answer;
    let mut text = format!("{} {source} -> {destination} {protocol}/{port}", word(answer.verdict));
    text += &counted(answer.verdict, answer.allowed, answer.asked);
    let shown = answer.pairs.iter().map(|pair| (&pair.source, &pair.destination, said(pair.allowed).to_owned()));
    text += &pairs(shown, answer.asked);
    for rule in &answer.rules {
        text += &allowing(rule);
    }
    text += &near(&answer.near_misses, answer.verdict);
    text + &notes(&answer.notes)
}

fn ssh(answer: &SshExplanation) -> String {
    let SshExplanation { source, user, destination, .. } = answer;
    let mut text = format!("{} ssh {source} -> {user}@{destination}", word(answer.verdict));
    text += &counted(answer.verdict, answer.allowed, answer.asked);
    let shown = answer.pairs.iter().map(|pair| {
        let mut what = pair.action.clone();
        if !pair.check_period.is_empty() {
            what += &format!(" (period {})", pair.check_period);
        }
        if !pair.packets {
            what += ", but no packets to port 22";
        }
        (&pair.source, &pair.destination, what)
    });
    text += &pairs(shown, answer.asked);
    let mut rules: Vec<&Place> = answer.pairs.iter().filter_map(|pair| pair.rule.as_ref()).collect();
    rules.dedup();
    for rule in rules {
        text += &format!("By {}", place(rule));
    }
    text += &near(&answer.near_misses, answer.verdict);
    text + &notes(&answer.notes)
}

fn route(answer: &RouteExplanation) -> String {
    let RouteExplanation { prefix, node, owner, .. } = answer;
    let mut table = Table::new(&["Route", "Node", "Owner", "Announced", "Approved", "Primary", "Auto-approved"]);
    let flag = |flag: bool| Cell::from(if flag { "yes" } else { "no" });
    table.row(vec![
        prefix.clone().into(),
        node.clone().into(),
        owner.clone().into(),
        flag(answer.announced),
        flag(answer.approved),
        flag(answer.primary),
        flag(answer.auto_approved),
    ]);
    let mut text = table.render(false);
    if answer.approvers.is_empty() {
        text += "\nNo entry of autoApprovers has this route: an administrator approves it.\n";
    } else {
        text += "\nApproved without an administrator for:\n";
        for one in &answer.approvers {
            let matches = if one.matches { "the owner" } else { "not the owner" };
            text += &format!("  {} (line {}, {}): {matches}\n", one.name, one.place.line, one.place.name);
        }
    }
    if answer.uses.is_empty() {
        text += "\nNo rule lets anybody use it.\n";
    } else {
        text += "\nUsed by:\n";
    }
    for one in &answer.uses {
        let (sources, ports) = (one.sources.join(", "), one.ports.join(", "));
        text += &format!("  {sources} ({}, ports {ports}): {}\n", one.protocols, head(&one.rule));
        text +=
            &format!("    nodes now: {}\n", if one.nodes.is_empty() { "none".into() } else { one.nodes.join(", ") });
    }
    text + &notes(&answer.notes)
}

fn tag(answer: &TagExplanation) -> String {
    let verdict = if answer.allowed { Verdict::Allowed } else { Verdict::Denied };
    let mut text = format!("{} {} may be given by {}\n", word(verdict), answer.tag, answer.user);
    if !answer.allowed {
        text = format!("{} {} may not be given by {}\n", word(verdict), answer.tag, answer.user);
    }
    if let Some(at) = &answer.place {
        text += &format!("\nOwners by {}", place(at));
    }
    for owner in &answer.owners {
        let way =
            if owner.through.is_empty() { String::new() } else { format!(", through {}", owner.through.join(", ")) };
        let matches =
            if owner.matches { format!("means {}{way}", answer.user) } else { format!("not {}", answer.user) };
        text += &format!("  {}: {matches}\n", owner.name);
    }
    text + &notes(&answer.notes)
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allowed => "ALLOWED:",
        Verdict::Partly => "PARTLY ALLOWED:",
        Verdict::Denied => "DENIED:",
    }
}

fn said(allowed: bool) -> &'static str {
    if allowed { "allowed" } else { "denied" }
}

fn counted(verdict: Verdict, allowed: usize, asked: usize) -> String {
    match verdict {
        Verdict::Partly => format!(" ({allowed} of {asked} pairs of nodes)\n"),
        _ if asked > 1 => format!(" (all {asked} pairs of nodes)\n"),
        _ => "\n".into(),
    }
}

fn pairs<'p>(pairs: impl Iterator<Item = (&'p End, &'p End, String)>, asked: usize) -> String {
    let mut table = Table::new(&["Source", "Address", "Owner", "Destination", "Address", "Owner", "Result"]);
    let mut shown = 0;
    for (from, to, result) in pairs {
        let cells = [&from.node, &from.ip, &from.owner, &to.node, &to.ip, &to.owner, &result];
        table.row(cells.into_iter().map(|text| text.clone().into()).collect());
        shown += 1;
    }
    match (shown, asked.saturating_sub(shown)) {
        (0, _) => String::new(),
        (_, 0) => format!("\n{}", table.render(false)),
        (_, more) => format!("\n{}and {more} more\n", table.render(false)),
    }
}

fn allowing(rule: &RuleMatch) -> String {
    let list = |name: &str, texts: &[String]| match texts {
        [] => String::new(),
        texts => format!("    {name}: {}\n", texts.join(", ")),
    };
    let (src, dst) = (list("source fits", &rule.sources), list("destination fits", &rule.destinations));
    format!("\nBy {}{src}{dst}", place(&rule.rule))
}

fn near(misses: &[NearMiss], verdict: Verdict) -> String {
    if verdict == Verdict::Allowed {
        return String::new();
    }
    if misses.is_empty() {
        return "\nNo rule comes near: none has this source or this destination.\n".into();
    }
    let lines = misses.iter().map(|miss| format!("  {}: {}\n", head(&miss.rule), miss.why));
    format!("\nThe rules that come closest:\n{}", lines.collect::<String>())
}

fn notes(notes: &[String]) -> String {
    notes.iter().map(|note| format!("\nNote: {note}\n")).collect()
}

fn head(place: &Place) -> String {
    format!("{} (line {}, column {})", place.name, place.line, place.column)
}

/// The rule's place, and its text below.
fn place(place: &Place) -> String {
    let lines: Vec<&str> = place.text.lines().collect();
    let shown = lines.iter().take(SHOWN_LINES).map(|line| format!("    {}\n", line.trim_end()));
    let cut = if lines.len() > SHOWN_LINES { "    …\n" } else { "" };
    format!("{}:\n{}{cut}", head(place), shown.collect::<String>())
}
