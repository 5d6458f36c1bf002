//! What stands behind the `?` of a request.

use std::time::Duration;

use ponix_wire::message::Status;
use uuid::Uuid;

use super::list::LIST_MAX;
use crate::error::ApiError;
use crate::message::check_entity;

/// The parameters, each at its default when it is not there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) entity: Option<String>,
    pub(super) atomic: bool,
    pub(super) check: bool,
    pub(super) wait: Duration,
    pub(super) status: Option<Status>,
    pub(super) before: Option<Uuid>,
    pub(super) limit: Option<usize>,
}

impl Query {
    /// Reads the parameters that a route knows; none of their values needs percent signs.
    pub(super) fn parse(text: Option<&str>, known: &[&str]) -> Result<Self, ApiError> {
        let mut query = Self::default();
        let mut seen = Vec::new();
        let pairs = text.unwrap_or_default().split('&');
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = known.iter().copied().find(|known| *known == name) else {
                let message = format!("the parameters of this route are: {}", known.join(", "));
                return Err(ApiError::bad("unknown_parameter", message));
            };
            if seen.contains(&name) {
                return Err(wrong(name, "is there twice"));
            }
            seen.push(name);
            match (name, value) {
                ("entity", name) => {
                    check_entity(name, "entity")?;
                    query.entity = Some(name.to_owned());
                }
                ("atomic", "true") => query.atomic = true,
                ("check", "true") => query.check = true,
                ("atomic" | "check", "false") => {}
                ("atomic" | "check", _) => return Err(wrong(name, "must be true or false")),
                ("status", value) => {
                    let status = Status::parse(value);
                    query.status = Some(status.ok_or_else(|| {
                        wrong(
                            "status",
                            "must be accepted, processing, processed, failed or dead_letter",
                        )
                    })?);
                }
                ("before", value) => {
                    let id = Uuid::try_parse(value);
                    query.before = Some(id.map_err(|_| wrong("before", "is not a message_id"))?);
                }
                ("limit", value) => {
                    let limit = value.parse().ok();
                    let limit = limit.filter(|limit| (1..=LIST_MAX).contains(limit));
                    query.limit = Some(limit.ok_or_else(|| {
                        wrong("limit", &format!("must be a number from 1 to {LIST_MAX}"))
                    })?);
                }
                (_, value) => {
                    let wait = duration(value);
                    query.wait =
                        wait.ok_or_else(|| wrong("wait", "must be a time such as 5s or 500ms"))?;
                }
            }
        }
        Ok(query)
    }
}

fn wrong(name: &str, what: &str) -> ApiError {
    ApiError::bad("invalid_parameter", format!("{name} {what}")).at(name)
}

/// Up to five digits and a unit: seconds without.
fn duration(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit());
    let end = end.unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 5)?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" | "" => Some(Duration::from_secs(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_or_told() {
        let all = &["entity", "atomic", "wait"];
        let query = Query::parse(Some("entity=Order&atomic=true&wait=500ms"), all).unwrap();
        assert_eq!(query.entity.as_deref(), Some("Order"));
        assert!(query.atomic);
        assert_eq!(query.wait, Duration::from_millis(500));
        let query = Query::parse(Some("wait=5"), all).unwrap();
        assert_eq!(query.wait, Duration::from_secs(5));
        assert_eq!(Query::parse(None, all), Ok(Query::default()));
        for wrong in [
            "wait=",
            "wait=s",
            "wait=-1s",
            "wait=5m",
            "wait=999999s",
            "wait=1s&wait=1s",
            "atomic",
            "atomic=1",
            "entity=",
            "entity=a.b",
            "entity=%2A",
            "other=1",
        ] {
            assert!(Query::parse(Some(wrong), all).is_err(), "{wrong}");
        }
    }
}
