//! What a swarm measured, for people.

use crate::cli::table::Table;
use crate::swarm::{Kind, Phase, Quantiles, Report};

/// A line for each figure, and the complaints below.
pub(super) fn table(report: &Report, colour: bool) -> String {
    let mut table = Table::new(&["Phase", "Measured", "Value"]);
    for Row { phase, what, value } in rows(report) {
        table.row(vec![phase.into(), what.into(), value.into()]);
    }
    let mut text = table.render(colour);
    for complaint in &report.complaints {
        text += &format!("! {complaint}\n");
    }
    text
}

/// A column for each report, in Markdown.
pub(super) fn side_by_side(reports: &[Report]) -> String {
    let columns: Vec<Vec<Row>> = reports.iter().map(rows).collect();
    let mut lines: Vec<(&str, String)> = Vec::new();
    for column in &columns {
        for row in column {
            let line = (row.phase, row.what.clone());
            if !lines.contains(&line) {
                // Next to its phase.
                let at = lines.iter().rposition(|(phase, _)| *phase == line.0).map_or(lines.len(), |at| at + 1);
                lines.insert(at, line);
            }
        }
    }
    let nodes = reports.iter().map(|report| format!(" {} nodes |", report.nodes));
    let mut text =
        format!("| phase | measured |{}\n|---|---|{}\n", nodes.collect::<String>(), "--:|".repeat(reports.len()));
    for (phase, what) in lines {
        let value = |column: &Vec<Row>| {
            let found = column.iter().find(|row| row.phase == phase && row.what == what);
            format!(" {} |", found.map_or("-", |row| row.value.as_str()))
        };
        text += &format!("| {phase} | {what} |{}\n", columns.iter().map(value).collect::<String>());
    }
    text
}

struct Row {
    phase: &'static str,
    what: String,
    value: String,
}

fn rows(report: &Report) -> Vec<Row> {
    let mut rows = Rows { rows: Vec::new(), phase: "" };
    if let Some(join) = rows.enter("join", &report.join) {
        rows.row("nodes registered", format!("{} of {}", report.nodes - join.failed, report.nodes));
        rows.row("registrations a second", format!("{:.0}", join.per_s));
        rows.latency("one registration", &join.latency);
    }
    rows.cost(&report.join);
    if let Some(restart) = rows.enter("restart", &report.restart) {
        rows.row("all servers are well", restart.serving_s.map_or("not in time".into(), seconds));
    }
    rows.cost(&report.restart);
    if let Some(connect) = rows.enter("connect", &report.connect) {
        rows.row("all streams open", seconds(connect.all_streams_s));
        rows.row("everyone knows everyone", seconds(connect.all_peers_s));
        rows.row("nodes that know everyone", format!("{} of {}", connect.nodes_with_all_peers, report.nodes));
        rows.row("received", format!("{:.1} MiB", connect.received_mib));
        rows.latency("a first map", &connect.latency);
    }
    rows.cost(&report.connect);
    if let Some(idle) = rows.enter("idle", &report.connected_idle) {
        let (percent, kib) = (idle.cpu_percent_of_a_core_per_server, idle.kib_per_node);
        rows.row("processor, each server", percent.map_or("-".into(), |percent| format!("{percent:.2} % of a core")));
        rows.row("memory for a node, all servers", kib.map_or("-".into(), |kib| format!("{kib:.1} KiB")));
    }
    rows.cost(&report.connected_idle);
    if let Some(fanout) = rows.enter("fanout", &report.fanout) {
        rows.kind("a changed endpoint", &fanout.endpoint);
        rows.kind("a changed home relay", &fanout.relay);
        rows.kind("a node that comes online", &fanout.online);
        if let Some(bare) = &fanout.bare {
            rows.row("bytes to each reader", bare.bytes.to_string());
            rows.latency("as many bytes by bare TCP", &bare.latency);
        }
        let ratio = |ratio: Option<f64>| ratio.map_or("-".into(), |ratio| format!("{ratio:.1}"));
        rows.row(
            "endpoint : bare TCP, p50 / p99",
            format!("{} / {}", ratio(fanout.ratio_p50), ratio(fanout.ratio_p99)),
        );
    }
    rows.cost(&report.fanout);
    if let Some(flap) = rows.enter("flap", &report.flap) {
        rows.row("nodes that came back", flap.returned.to_string());
        rows.latency("a stream that comes back", &flap.latency);
    }
    rows.cost(&report.flap);
    if let Some(storm) = rows.enter("storm", &report.storm) {
        let time = |time: Option<f64>| time.map_or("not in time".into(), seconds);
        rows.row("writes again", time(storm.first_write_s));
        rows.row("all streams back", time(storm.all_streams_s));
        rows.row("everyone knows of a change", time(storm.all_know_s));
        rows.row("streams that broke", storm.streams_dropped.to_string());
        rows.row("marks of offline peers", storm.offline_marks.to_string());
    }
    rows.cost(&report.storm);
    if let Some(leave) = rows.enter("leave", &report.leave) {
        rows.row("nodes that could not log out", leave.failed.to_string());
    }
    if let Some(cpu) = report.driver_cpu_s {
        rows.phase = "all";
        rows.row("processor time of the driver", seconds(cpu));
    }
    rows.rows
}

struct Rows {
    rows: Vec<Row>,
    phase: &'static str,
}

impl Rows {
    fn enter<'a, T>(&mut self, phase: &'static str, result: &'a Option<Phase<T>>) -> Option<&'a T> {
        self.phase = phase;
        result.as_ref().map(|phase| &phase.result)
    }

    fn row(&mut self, what: &str, value: String) {
        self.rows.push(Row { phase: self.phase, what: what.into(), value });
    }

    fn latency(&mut self, what: &str, latency: &Quantiles) {
        self.row(&format!("{what}, p50 / p99 / max"), quantiles(latency));
    }

    fn kind(&mut self, what: &str, kind: &Kind) {
        self.latency(what, &kind.latency);
        if kind.missing + kind.errors > 0 {
            self.row(&format!("{what}: never arrived / failed"), format!("{} / {}", kind.missing, kind.errors));
        }
    }

    fn cost<T>(&mut self, phase: &Option<Phase<T>>) {
        let Some(phase) = phase else { return };
        if let Some(cpu) = phase.server_cpu_s {
            self.row("processor time, all servers", seconds(cpu));
        }
        if let Some(rss) = phase.server_rss_mib {
            self.row("memory, all servers", format!("{rss:.0} MiB"));
        }
    }
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.2} s")
}

fn quantiles(latency: &Quantiles) -> String {
    let ms = |ms: Option<f64>| ms.map_or("-".into(), |ms| format!("{ms:.1}"));
    format!("{} / {} / {} ms", ms(latency.p50_ms), ms(latency.p99_ms), ms(latency.max_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::Join;

    #[test]
    fn reports_side_by_side_have_a_line_for_each_figure_of_any() {
        let flap = crate::swarm::Flap { returned: 3, latency: Quantiles::default() };
        let flap = Some(Phase { result: flap, ..Phase::default() });
        let reports = [Report { nodes: 10, ..Report::default() }, Report { nodes: 30, flap, ..Report::default() }];
        let text = side_by_side(&reports);
        assert!(text.starts_with("| phase | measured | 10 nodes | 30 nodes |\n|---|---|--:|--:|\n"), "{text}");
        assert!(text.contains("| flap | nodes that came back | - | 3 |\n"), "{text}");
    }

    #[test]
    fn what_was_not_run_is_not_shown_and_what_went_wrong_is() {
        let join = Join { per_s: 1234.4, failed: 1, latency: Quantiles::default() };
        let join = Phase { wall_s: 1.0, server_cpu_s: Some(0.5), server_rss_mib: None, result: join };
        let complaints = vec!["a node could not register: no".into()];
        let text = table(&Report { nodes: 10, join: Some(join), complaints, ..Report::default() }, false);
        let line = |what: &str| text.lines().find(|line| line.contains(what)).map(|line| line.trim_end().to_owned());
        let second = line("registrations a second").unwrap();
        assert!(second.starts_with("join  | ") && second.ends_with("| 1234"), "{text}");
        assert!(text.contains("9 of 10") && text.contains("- / - / - ms") && text.contains("0.50 s"), "{text}");
        assert!(!text.contains("storm") && text.ends_with("! a node could not register: no\n"), "{text}");
    }
}
