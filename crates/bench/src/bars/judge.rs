//! Compares a figure with its bar.

use super::query::Query;
use super::{significant, time};
use crate::report::group::{Group, Results};
use crate::report::number::{Figure, span};
use crate::report::table::Table;
use crate::row::Row;

/// Judges what `query` finds; `what` names the figure of the row.
pub(super) fn judge<'a>(results: &'a Results, query: &'a Query, what: &'a str, bar: Bar) -> Judge<'a> {
    Judge { results, query, what, bar }
}

/// A figure that must be reached.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    value: f64,
    sense: Sense,
    unit: Unit,
    of: String,
    aim: Option<f64>,
}

impl Bar {
    pub(super) fn at_most(value: f64, unit: Unit) -> Bar {
        Bar { value, sense: Sense::AtMost, unit, of: String::new(), aim: None }
    }

    pub(super) fn at_least(value: f64, unit: Unit) -> Bar {
        Bar { sense: Sense::AtLeast, ..Bar::at_most(value, unit) }
    }

    pub(super) fn above(value: f64, unit: Unit) -> Bar {
        Bar { sense: Sense::Above, ..Bar::at_most(value, unit) }
    }

    pub(super) fn below(value: f64, unit: Unit) -> Bar {
        Bar { sense: Sense::Below, ..Bar::at_most(value, unit) }
    }

    /// Says what the figure is a share of.
    pub(super) fn of(self, of: &str) -> Bar {
        Bar { of: of.to_owned(), ..self }
    }

    /// Says what a prototype reached, in millions a second; it is not judged.
    pub(super) fn aiming_at(self, aim: Option<f64>) -> Bar {
        Bar { aim, ..self }
    }

    fn is_met_by(&self, value: f64) -> bool {
        match self.sense {
            Sense::AtMost => value <= self.value,
            Sense::Below => value < self.value,
            Sense::AtLeast => value >= self.value,
            Sense::Above => value > self.value,
        }
    }

    fn text(&self) -> String {
        let sense = match self.sense {
            Sense::AtMost => "<=",
            Sense::Below => "<",
            Sense::AtLeast => ">=",
            Sense::Above => ">",
        };
        let of = if self.of.is_empty() { String::new() } else { format!(" {}", self.of) };
        let aim = self.aim.map_or_else(String::new, |aim| format!(" (aim {aim})"));
        format!("{sense} {}{of}{aim}", self.unit.bar(self.value))
    }
}

#[derive(Debug, Clone, Copy)]
enum Sense {
    AtMost,
    Below,
    AtLeast,
    Above,
}

/// What a figure counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unit {
    /// Nanoseconds.
    Time,
    /// Messages per second.
    Rate,
    /// Bytes of memory.
    Bytes,
    /// How often something happens in a second.
    PerSecond,
    /// A ratio.
    Times,
    /// A ratio in percent.
    Percent,
}

impl Unit {
    /// Three digits, for two may hide on which side of the bar a figure is; the range stands beside it.
    fn write(self, value: f64) -> String {
        match self {
            Unit::Time => time(value, 3),
            Unit::Rate => format!("{} M/s", significant(value / 1e6, 3)),
            Unit::Bytes => format!("{} KiB", significant(value / 1024.0, 3)),
            Unit::PerSecond => format!("{} per s", significant(value, 3)),
            Unit::Times => format!("{} x", significant(value, 3)),
            Unit::Percent => format!("{} %", significant(value * 100.0, 3)),
        }
    }

    /// The value of a bar, which is a round one.
    fn bar(self, value: f64) -> String {
        match self {
            Unit::Time if value < 1e3 => format!("{value} ns"),
            Unit::Time if value >= 1e6 => format!("{} ms", value / 1e6),
            Unit::Time => format!("{} us", value / 1e3),
            Unit::Rate => format!("{} M/s", value / 1e6),
            Unit::Bytes => format!("{} KiB", value / 1024.0),
            Unit::PerSecond => format!("{value} per s"),
            Unit::Times => format!("{value} x"),
            Unit::Percent => format!("{} %", value * 100.0),
        }
    }
}

/// How a bar came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Met,
    Missed,
    NotMeasured,
    NotCalm,
}

impl Outcome {
    fn text(self) -> &'static str {
        match self {
            Outcome::Met => "met",
            Outcome::Missed => "MISSED",
            Outcome::NotMeasured => "not measured",
            Outcome::NotCalm => "not calm",
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone)]
pub(super) struct Judgement {
    pub(super) row: String,
    pub(super) bar: String,
    pub(super) figure: String,
    pub(super) outcome: Outcome,
    pub(super) remark: String,
}

/// The judgements as a table.
pub(super) fn table(judgements: &[Judgement]) -> String {
    let mut table = Table::new(&["row", "bar", "figure", "outcome", "remark"]);
    for judged in judgements {
        let outcome = judged.outcome.text().to_owned();
        let Judgement { row, bar, figure, remark, .. } = judged.clone();
        table.push(vec![row, bar, figure, outcome, remark]);
    }
    table.markdown()
}

/// A bar and where to find its row.
pub(super) struct Judge<'a> {
    results: &'a Results,
    query: &'a Query,
    what: &'a str,
    bar: Bar,
}

impl Judge<'_> {
    /// Judges the figure as it stands.
    pub(super) fn alone(self, pick: impl Fn(&Row) -> Option<f64>) -> Judgement {
        let Some(own) = self.query.find(self.results, None) else { return self.missing(self.query) };
        let figure = own.figure(pick);
        self.conclude(&[own], figure, figure, String::new())
    }

    /// Judges the figure as it stands; the remark has that of another row, which decides nothing, from the same lists.
    pub(super) fn beside(
        self,
        other: &Query,
        name: &str,
        pick: impl Fn(&Row) -> Option<f64>,
        pick_other: impl Fn(&Row) -> Option<f64>,
    ) -> Judgement {
        let Some(own) = self.query.find(self.results, None) else { return self.missing(self.query) };
        let remark = other.find(self.results, Some(&own.identity)).and_then(|other| {
            let figure = own.figure_with(other, |_, other| pick_other(other))?;
            let calm = if other.is_calm() { "" } else { ", not calm" };
            Some(format!("{name}: {}{calm}", self.with_range(figure)))
        });
        let figure = own.figure(pick);
        self.conclude(&[own], figure, figure, remark.unwrap_or_default())
    }

    /// Judges the figure as a share of another row's, list by list.
    pub(super) fn against(
        self,
        other: &Query,
        own_figure: impl Fn(&Row) -> Option<f64>,
        other_figure: impl Fn(&Row) -> Option<f64>,
    ) -> Judgement {
        let Some(own) = self.query.find(self.results, None) else { return self.missing(self.query) };
        let Some(other_row) = other.find(self.results, Some(&own.identity)) else {
            return self.missing(other);
        };
        let share = own.figure_with(other_row, |own, other| Some(own_figure(own)? / other_figure(other)?));
        let remark = match (own.figure(own_figure), other_row.figure(other_figure)) {
            (Some(own), Some(other)) => format!("{} to {}", self.absolute(own), self.absolute(other)),
            _ => String::new(),
        };
        self.conclude(&[own, other_row], share, share, remark)
    }

    /// Judges the figure as it would be if the processors stood as near to each other as when the bar was set.
    pub(super) fn by_canary(self, pick: impl Fn(&Row) -> Option<f64>) -> Judgement {
        let Some(own) = self.query.find(self.results, None) else { return self.missing(self.query) };
        let factor = |row: &Row| {
            let unusual = |ns: &f64| !(CANARY_NS_LOW..=CANARY_NS_HIGH).contains(ns) && *ns > 0.0;
            canary(row).filter(unusual).map_or(1.0, |ns| ns / CANARY_NS)
        };
        let scaled = own.figure(|row| Some(pick(row)? / factor(row)));
        let remark = self.canary_remark(own, &pick, scaled, own.figure(|row| Some(factor(row))));
        self.conclude(&[own], own.figure(pick), scaled, remark)
    }

    fn canary_remark(
        &self,
        own: &Group,
        pick: &impl Fn(&Row) -> Option<f64>,
        scaled: Option<Figure>,
        factor: Option<Figure>,
    ) -> String {
        let (Some(scaled), Some(factor)) = (scaled, factor) else { return String::new() };
        let Some(canary_ns) = own.figure(canary) else { return "no canary: judged as it stands".to_owned() };
        if factor.min == 1.0 && factor.max == 1.0 {
            return format!("canary {}", time(canary_ns.median, 3));
        }
        let multiple = own.figure(|row| Some(pick(row)? / canary(row)?)).map_or(0.0, |figure| figure.median);
        format!(
            "{} x the canary of {}: judged as {}, that is bar x {}",
            significant(multiple, 3),
            time(canary_ns.median, 3),
            self.bar.unit.write(scaled.median),
            significant(factor.median, 3),
        )
    }

    /// Writes `judged` against the bar, where `figure` is what was measured.
    fn conclude(
        self,
        rows: &[&Group],
        figure: Option<Figure>,
        judged: Option<Figure>,
        mut remark: String,
    ) -> Judgement {
        let sound = rows.iter().all(|group| group.is_sound());
        let outcome = match judged {
            _ if !rows.iter().all(|group| group.is_calm()) => Outcome::NotCalm,
            None => Outcome::NotMeasured,
            Some(figure) if sound && self.bar.is_met_by(figure.median) => Outcome::Met,
            Some(_) => Outcome::Missed,
        };
        if !sound {
            remark = format!("messages were lost or damaged; {remark}").trim_end_matches("; ").to_owned();
        }
        if let Some(few) = judged.map(|figure| figure.count).filter(|count| *count < self.results.lists) {
            let counted = format!("{few} of {} lists count", self.results.lists);
            remark = if remark.is_empty() { counted } else { format!("{counted}; {remark}") };
        }
        if outcome == Outcome::NotMeasured {
            remark = "no row (for a share: no list) has the figures".to_owned();
        }
        let figure = figure.map_or_else(String::new, |figure| self.with_range(figure));
        let row = self.name(&rows[0].identity.to_string());
        Judgement { row, bar: self.bar.text(), figure, outcome, remark }
    }

    fn missing(&self, query: &Query) -> Judgement {
        Judgement {
            row: self.name(&self.query.to_string()),
            bar: self.bar.text(),
            figure: String::new(),
            outcome: Outcome::NotMeasured,
            remark: format!("there is no {query}"),
        }
    }

    fn name(&self, row: &str) -> String {
        if self.what.is_empty() { row.to_owned() } else { format!("{row}, {}", self.what) }
    }

    fn with_range(&self, figure: Figure) -> String {
        let written = self.bar.unit.write(figure.median);
        let range = span(&self.bar.unit.write(figure.min), &self.bar.unit.write(figure.max));
        if figure.count > 1 { format!("{written} ({range})") } else { written }
    }

    /// A figure that is part of a share: a time, a rate of bytes, or a rate of messages.
    fn absolute(&self, figure: Figure) -> String {
        match self.what {
            "p50" | "p99" | "last has all" => time(figure.median, 3),
            "bytes" => format!("{} GB/s", significant(figure.median / 1e9, 3)),
            _ => Unit::Rate.write(figure.median),
        }
    }
}

/// The raw ping-pong around a row: between the one before and the one after.
fn canary(row: &Row) -> Option<f64> {
    match (row.canary_ns_before, row.canary_ns_after) {
        (Some(before), Some(after)) => Some((before + after) / 2.0),
        (one, other) => one.or(other),
    }
}

/// The canary for which the bars of the round trips were set, and how far it may be off before they are scaled.
const CANARY_NS: f64 = 115.0;
const CANARY_NS_LOW: f64 = 110.0;
const CANARY_NS_HIGH: f64 = 120.0;
