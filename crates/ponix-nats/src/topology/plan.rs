//! From what a server has to what is wanted, as steps; nothing is asked or done here.

use std::collections::BTreeSet;

use ponix_wire::{covers, overlap};
use serde_json::Value as Json;

use super::setting::{CONSUMER_SETTINGS, Changing, STREAM_SETTINGS, Setting};
use super::{ServerConfig, StreamLayout, StreamOnServer, Target, is_durable_pull, name};

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// Why the plan must not be carried out.
    pub refusals: Vec<Refusal>,
    /// What is on the server, is not wanted, and stays.
    pub left: Vec<Target>,
}

/// One stream or consumer that is made, changed or removed.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Which one.
    pub target: Target,
    /// What is done with it.
    pub action: Action,
    /// What it is from then on: all that changes, or all that was said of a new one.
    pub changes: Vec<Change>,
    /// What the server is asked for.
    pub(super) config: ServerConfig,
}

/// What is done with a stream or consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is made.
    Create,
    /// Its settings are changed.
    Update,
    /// It is removed, with what it holds.
    Delete,
}

/// A setting before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its name in files.
    pub setting: &'static str,
    /// What the server has; `None` where there is nothing yet.
    pub actual: Option<String>,
    /// What is wanted.
    pub wanted: String,
}

/// Something that is wanted and must not or cannot be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Of what.
    pub target: Target,
    /// Why.
    pub reason: String,
}

/// Compares what is wanted with what is there. What is there and not wanted is removed when
/// `prune` is set and it is not one of `kept`; only then may a lower limit drop messages, too.
///
/// Of consumers, those that are durable and pulled from alone are looked at.
pub fn plan(
    wanted: &[StreamLayout],
    server: &[StreamOnServer],
    prune: bool,
    kept: &BTreeSet<Target>,
    now_ns: i128,
) -> Plan {
    let planner = Planner {
        wanted,
        server,
        prune,
        kept,
        now_ns,
    };
    planner.plan()
}

struct Planner<'a> {
    wanted: &'a [StreamLayout],
    server: &'a [StreamOnServer],
    prune: bool,
    kept: &'a BTreeSet<Target>,
    now_ns: i128,
}

impl Planner<'_> {
    fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        let (mut creates, mut updates, mut consumers) = (Vec::new(), Vec::new(), Vec::new());
        for wanted in self.wanted {
            let actual = self
                .server
                .iter()
                .find(|one| one.layout.name() == wanted.name());
            let target = Target::Stream(wanted.name().to_owned());
            match actual {
                None => creates.push(create(target, &wanted.config, STREAM_SETTINGS)),
                Some(actual) => {
                    self.refuse_losses(wanted, actual, &mut plan.refusals);
                    let (from, to) = (&actual.layout.config, &wanted.config);
                    updates.extend(update(
                        target,
                        from,
                        to,
                        STREAM_SETTINGS,
                        &mut plan.refusals,
                    ));
                }
            }
            self.refuse_overlaps(wanted, &mut plan.refusals);
            let there = actual.map_or(&[][..], |actual| &actual.layout.consumers);
            self.consumers(wanted, there, &mut consumers, &mut plan);
        }
        // A subject that moves has to be given up before it is taken.
        updates.sort_by_key(|step| !gives_up_subjects(step, self.server));
        plan.steps.extend(self.unwanted(&mut plan.left));
        plan.steps
            .extend(updates.into_iter().chain(creates).chain(consumers));
        plan
    }

    fn consumers(
        &self,
        stream: &StreamLayout,
        there: &[ServerConfig],
        steps: &mut Vec<Step>,
        plan: &mut Plan,
    ) {
        let target = |consumer: &str| Target::Consumer {
            stream: stream.name().to_owned(),
            consumer: consumer.to_owned(),
        };
        for wanted in &stream.consumers {
            let target = target(name(wanted));
            match there.iter().find(|one| name(one) == name(wanted)) {
                None => steps.push(create(target, wanted, CONSUMER_SETTINGS)),
                Some(actual) if !is_durable_pull(actual) => plan.refusals.push(Refusal {
                    target,
                    reason: "is there as one that is pushed to, or not durable: it cannot be \
                             changed into a durable one that is pulled from"
                        .to_owned(),
                }),
                Some(actual) => {
                    let refusals = &mut plan.refusals;
                    steps.extend(update(target, actual, wanted, CONSUMER_SETTINGS, refusals));
                }
            }
        }
        let is_wanted = |one: &ServerConfig| stream.consumers.iter().any(|w| name(w) == name(one));
        for unwanted in there
            .iter()
            .filter(|one| is_durable_pull(one) && !is_wanted(one))
        {
            self.remove_or_leave(target(name(unwanted)), steps, &mut plan.left);
        }
    }

    /// The streams that nobody wants.
    fn unwanted(&self, left: &mut Vec<Target>) -> Vec<Step> {
        let mut steps = Vec::new();
        for stream in self.server.iter().filter(|stream| !stream.is_internal()) {
            let name = stream.layout.name();
            if !self.wanted.iter().any(|wanted| wanted.name() == name) {
                self.remove_or_leave(Target::Stream(name.to_owned()), &mut steps, left);
            }
        }
        steps
    }

    fn remove_or_leave(&self, target: Target, steps: &mut Vec<Step>, left: &mut Vec<Target>) {
        if !self.is_removed(&target) {
            return left.push(target);
        }
        steps.push(Step {
            target,
            action: Action::Delete,
            changes: Vec::new(),
            config: ServerConfig::new(),
        });
    }

    fn is_removed(&self, target: &Target) -> bool {
        self.prune && !self.kept.contains(target)
    }

    /// A subject belongs to one stream.
    fn refuse_overlaps(&self, wanted: &StreamLayout, refusals: &mut Vec<Refusal>) {
        for other in self.server {
            let name = other.layout.name();
            let is_wanted = self.wanted.iter().any(|one| one.name() == name);
            let target = Target::Stream(name.to_owned());
            if is_wanted || (self.is_removed(&target) && !other.is_internal()) {
                continue;
            }
            let theirs = subjects(&other.layout.config);
            for subject in subjects(&wanted.config) {
                if let Some(taken) = theirs.iter().find(|theirs| overlap(theirs, subject)) {
                    refusals.push(Refusal {
                        target: Target::Stream(wanted.name().to_owned()),
                        reason: format!("subject {subject} overlaps with {taken} of {target}, which is on the server: a subject belongs to one stream"),
                    });
                }
            }
        }
    }

    /// A lower limit drops what lies beyond it.
    fn refuse_losses(
        &self,
        wanted: &StreamLayout,
        actual: &StreamOnServer,
        refusals: &mut Vec<Refusal>,
    ) {
        if self.prune {
            return;
        }
        for setting in STREAM_SETTINGS
            .iter()
            .filter(|one| one.change == Changing::MayDrop)
        {
            let (from, to) = (&actual.layout.config, &wanted.config);
            let (from, to) = (setting.of(from), setting.of(to));
            if from != to && self.drops(setting, &from, &to, actual, &wanted.config) {
                let (from, to) = (setting.shown(&from), setting.shown(&to));
                let name = setting.name;
                refusals.push(Refusal {
                    target: Target::Stream(wanted.name().to_owned()),
                    reason: format!("{name} {from} → {to} drops messages that the stream holds: say --prune if that is meant"),
                });
            }
        }
    }

    fn drops(
        &self,
        setting: &Setting,
        from: &Json,
        to: &Json,
        stream: &StreamOnServer,
        wanted: &ServerConfig,
    ) -> bool {
        let limit = to.as_i64().unwrap_or(-1);
        let drops_old = wanted.get("discard").is_none_or(|discard| discard == "old");
        let beyond = |count: u64| limit >= 0 && count > limit.unsigned_abs();
        match setting.name {
            "retention" => to == "interest" && stream.messages > 0,
            "max_age" => {
                let oldest = self.now_ns - i128::from(limit);
                limit > 0 && stream.messages > 0 && stream.oldest_ns < oldest
            }
            "max_bytes" => drops_old && beyond(stream.bytes),
            "max_msgs" => drops_old && beyond(stream.messages),
            // As many may be of one subject, when each of the others has one.
            _ => {
                let lower = from.as_i64().is_some_and(|from| from < 0 || limit < from);
                lower
                    && beyond(
                        stream
                            .messages
                            .saturating_sub(stream.subjects.saturating_sub(1)),
                    )
            }
        }
    }
}

fn create(target: Target, config: &ServerConfig, settings: &'static [Setting]) -> Step {
    let said = settings.iter().filter_map(|setting| {
        let value = setting.of(config);
        (value != setting.unsaid()).then(|| Change {
            setting: setting.name,
            actual: None,
            wanted: setting.shown(&value),
        })
    });
    Step {
        target,
        action: Action::Create,
        changes: said.collect(),
        config: config.clone(),
    }
}

fn update(
    target: Target,
    actual: &ServerConfig,
    wanted: &ServerConfig,
    settings: &'static [Setting],
    refusals: &mut Vec<Refusal>,
) -> Option<Step> {
    let mut config = actual.clone();
    let mut changes = Vec::new();
    for setting in settings {
        let (from, to) = (setting.of(actual), setting.of(wanted));
        if from == to {
            continue;
        }
        let change = Change {
            setting: setting.name,
            actual: Some(setting.shown(&from)),
            wanted: setting.shown(&to),
        };
        let is_work = |value: &Json| value == "workqueue";
        let is_fixed = match setting.change {
            Changing::Fixed => true,
            Changing::OnceOn => to == false,
            Changing::MayDrop | Changing::Free => is_work(&from) || is_work(&to),
        };
        if is_fixed {
            let (name, from) = (setting.name, setting.shown(&from));
            refusals.push(Refusal {
                target: target.clone(),
                reason: format!(
                    "{name} cannot be changed from {from} to {}: the server fixes it when it is made",
                    change.wanted
                ),
            });
        }
        setting.put(to, &mut config);
        changes.push(change);
    }
    (!changes.is_empty()).then_some(Step {
        target,
        action: Action::Update,
        changes,
        config,
    })
}

fn gives_up_subjects(step: &Step, server: &[StreamOnServer]) -> bool {
    let wanted = subjects(&step.config);
    let before = server
        .iter()
        .filter(|one| matches!(&step.target, Target::Stream(name) if one.layout.name() == name))
        .flat_map(|one| subjects(&one.layout.config));
    let mut before = before.map(|subject| wanted.iter().any(|wide| covers(wide, subject)));
    before.any(|is_kept| !is_kept)
}

fn subjects(config: &ServerConfig) -> Vec<&str> {
    let subjects = config.get("subjects").and_then(Json::as_array);
    let subjects = subjects.into_iter().flatten();
    subjects.filter_map(Json::as_str).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HOUR_NS: i128 = 3_600_000_000_000;

    fn config(value: &Json) -> ServerConfig {
        value.as_object().cloned().expect("a configuration")
    }

    fn layout(stream: &Json, consumers: &[Json]) -> StreamLayout {
        StreamLayout {
            config: config(stream),
            consumers: consumers.iter().map(config).collect(),
        }
    }

    /// A stream with ten messages of two subjects, published at the beginning of time.
    fn held(stream: &Json, consumers: &[Json]) -> StreamOnServer {
        StreamOnServer {
            layout: layout(stream, consumers),
            messages: 10,
            bytes: 1_000,
            subjects: 2,
            oldest_ns: 1,
        }
    }

    fn planned(wanted: &[StreamLayout], server: &[StreamOnServer], prune: bool) -> Plan {
        plan(wanted, server, prune, &BTreeSet::new(), 2 * HOUR_NS)
    }

    fn shown(plan: &Plan) -> Vec<String> {
        let steps = plan.steps.iter();
        let steps = steps.map(|step| format!("{:?} {}", step.action, step.target));
        steps.collect()
    }

    #[test]
    fn what_is_as_wanted_needs_no_step() {
        let stream = json!({ "name": "A", "subjects": ["a.>"], "allow_direct": true });
        let said = json!({
            "name": "A", "subjects": ["a.>"], "allow_direct": true, "retention": "limits",
            "storage": "file", "max_msgs": -1, "num_replicas": 1, "placement": { "tags": ["x"] },
            "duplicate_window": 120_000_000_000_u64, "metadata": { "_nats.level": "1" },
        });
        let consumer = json!({ "name": "c", "durable_name": "c" });
        let wanted = [layout(&stream, std::slice::from_ref(&consumer))];
        let plan = planned(&wanted, &[held(&said, &[consumer])], true);
        assert_eq!(plan, Plan::default());
    }

    #[test]
    fn an_update_keeps_what_it_does_not_know() {
        let actual = json!({
            "name": "A", "subjects": ["a.>"], "placement": { "tags": ["x"] },
            "metadata": { "_nats.level": "1", "team": "old" },
        });
        let wanted = json!({
            "name": "A", "subjects": ["a.>", "b.>"], "metadata": { "team": "new" },
        });
        let plan = planned(&[layout(&wanted, &[])], &[held(&actual, &[])], false);
        assert_eq!(shown(&plan), ["Update stream A"]);
        let step = &plan.steps[0];
        let changed: Vec<_> = step.changes.iter().map(|change| change.setting).collect();
        assert_eq!(changed, ["subjects", "metadata"]);
        assert_eq!(step.config["placement"], actual["placement"]);
        let metadata = json!({ "_nats.level": "1", "team": "new" });
        assert_eq!(step.config["metadata"], metadata);
    }

    #[test]
    fn nothing_is_removed_unless_it_is_asked_for() {
        let one = |name: &str| json!({ "name": name, "subjects": [format!("{name}.>")] });
        let push = json!({ "name": "p", "durable_name": "p", "deliver_subject": "d" });
        let gone = json!({ "name": "gone", "durable_name": "gone" });
        let server = [
            held(&one("a"), &[gone, push]),
            held(&one("b"), &[]),
            held(&one("KV_x"), &[]),
        ];
        let wanted = [layout(&one("a"), &[])];
        let plan = planned(&wanted, &server, false);
        assert_eq!(shown(&plan), [""; 0]);
        let left: Vec<_> = plan.left.iter().map(ToString::to_string).collect();
        assert_eq!(left, ["consumer a/gone", "stream b"]);
        let plan = planned(&wanted, &server, true);
        assert_eq!(shown(&plan), ["Delete stream b", "Delete consumer a/gone"]);
        let kept = BTreeSet::from([Target::Stream("b".to_owned())]);
        let plan = super::plan(&wanted, &server, true, &kept, 0);
        assert_eq!(shown(&plan), ["Delete consumer a/gone"]);
    }

    #[test]
    fn a_subject_is_given_up_before_it_is_taken() {
        let one = |name: &str, subjects: &[&str]| json!({ "name": name, "subjects": subjects });
        let server = [
            held(&one("A", &["a"]), &[]),
            held(&one("B", &["b", "c"]), &[]),
        ];
        let wanted = [
            layout(&one("A", &["a", "c"]), &[]),
            layout(&one("B", &["b"]), &[]),
        ];
        let plan = planned(&wanted, &server, false);
        assert_eq!(shown(&plan), ["Update stream B", "Update stream A"]);
    }

    #[test]
    fn what_loses_or_cannot_be_is_refused() {
        let actual = json!({ "name": "A", "subjects": ["a.>"] });
        for (setting, value, refused) in [
            (
                "storage",
                json!("memory"),
                "cannot be changed from file to memory",
            ),
            (
                "retention",
                json!("workqueue"),
                "cannot be changed from limits to work",
            ),
            ("retention", json!("interest"), "drops messages"),
            ("mirror", json!({ "name": "B" }), "cannot be changed"),
            (
                "max_age",
                json!(HOUR_NS as u64),
                "max_age none → 1h drops messages",
            ),
            ("max_age", json!(3 * HOUR_NS as u64), ""),
            ("max_bytes", json!(999), "drops messages"),
            ("max_bytes", json!(1_000), ""),
            ("max_msgs", json!(9), "drops messages"),
            ("max_msgs_per_subject", json!(8), "drops messages"),
            ("max_msgs_per_subject", json!(9), ""),
            ("deny_purge", json!(true), ""),
            ("discard", json!("new"), ""),
        ] {
            let mut wanted = actual.clone();
            wanted[setting] = value.clone();
            let plan = planned(&[layout(&wanted, &[])], &[held(&actual, &[])], false);
            let reasons: Vec<_> = plan.refusals.iter().map(|one| &one.reason).collect();
            let is_right = match refused {
                "" => reasons.is_empty(),
                text => reasons.len() == 1 && reasons[0].contains(text),
            };
            assert!(is_right, "{setting} {value}: {reasons:?}");
            let pruned = planned(&[layout(&wanted, &[])], &[held(&actual, &[])], true);
            let still = usize::from(refused.contains("cannot"));
            assert_eq!(pruned.refusals.len(), still, "{setting} {value}");
        }
    }

    #[test]
    fn a_subject_of_another_stream_is_refused() {
        let other = held(&json!({ "name": "B", "subjects": ["a.*"] }), &[]);
        let wanted = [layout(&json!({ "name": "A", "subjects": ["a.x"] }), &[])];
        let plan = planned(&wanted, std::slice::from_ref(&other), false);
        assert!(
            plan.refusals[0]
                .reason
                .contains("overlaps with a.* of stream B")
        );
        // Not when the other one goes.
        assert_eq!(planned(&wanted, &[other], true).refusals, []);
    }

    #[test]
    fn a_consumer_of_another_kind_is_refused() {
        let stream = json!({ "name": "A", "subjects": ["a"] });
        let wanted = json!({ "name": "c", "durable_name": "c", "filter_subject": "a" });
        for (actual, refused) in [
            (
                json!({ "name": "c", "durable_name": "c", "deliver_subject": "d" }),
                true,
            ),
            (json!({ "name": "c" }), true),
            (
                json!({ "name": "c", "durable_name": "c", "ack_policy": "none" }),
                true,
            ),
            (
                json!({ "name": "c", "durable_name": "c", "max_deliver": 3 }),
                false,
            ),
        ] {
            let wanted = [layout(&stream, std::slice::from_ref(&wanted))];
            let plan = planned(&wanted, &[held(&stream, &[actual])], true);
            assert_eq!(!plan.refusals.is_empty(), refused, "{plan:?}");
        }
    }
}
