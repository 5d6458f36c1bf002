//! Who may send statements.

use std::fmt;

use base64::Engine as _;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use crate::exception::{Exception, codes};
use crate::request::Parameters;

/// A user of the server.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password, empty for none.
    pub password: String,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("password", &"***")
            .finish()
    }
}

impl Default for User {
    /// ClickHouse's own: `default` without a password.
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            password: String::new(),
        }
    }
}

/// Who may send statements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    /// May do everything.
    pub owner: User,
    /// May read, and reads with [`READER_SETTINGS`].
    pub reader: Option<User>,
}

/// Who has sent a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// May do everything.
    Owner,
    /// May read.
    Reader,
}

/// What the statements of a reader begin with, as those of a user with a profile: every table that keeps
/// copies until they are merged shows each row once.
pub const READER_SETTINGS: [(&str, &str); 2] = [
    ("final", "1"),
    ("do_not_merge_across_partitions_select_final", "1"),
];

impl Users {
    /// Checks the credentials of a request: basic auth, `X-ClickHouse-User` and `X-ClickHouse-Key`, or `user` and
    /// `password` in the URL; only one of these ways at a time. No name means `default`.
    pub(crate) fn check(
        &self,
        parameters: &Parameters,
        headers: &HeaderMap,
    ) -> Result<Sender, Exception> {
        let (name, password) = credentials(parameters, headers)?;
        // Both are compared in any case, so that the time taken says nothing about the name.
        let is = |user: &User| same(&user.name, &name) & same(&user.password, &password);
        let is_reader = self.reader.as_ref().filter(|reader| is(reader));
        let (user, sender) = match (is(&self.owner), is_reader) {
            (true, _) => (&self.owner, Sender::Owner),
            (false, Some(reader)) => (reader, Sender::Reader),
            (false, None) => return Err(failed(&name)),
        };
        if user.password.is_empty() && is_cross_site(headers) {
            return Err(cross_site());
        }
        Ok(sender)
    }
}

fn credentials(
    parameters: &Parameters,
    headers: &HeaderMap,
) -> Result<(String, String), Exception> {
    let text = |name: &str| {
        headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let (header_user, header_key) = (text("X-ClickHouse-User"), text("X-ClickHouse-Key"));
    let authorization = headers
        .get(AUTHORIZATION)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let in_headers = header_user.is_some() || header_key.is_some();
    let in_url = parameters.user.is_some() || parameters.password.is_some();
    if usize::from(in_headers) + usize::from(in_url) + usize::from(authorization.is_some()) > 1 {
        return Err(Exception::new(
            codes::AUTHENTICATION_FAILED,
            "AUTHENTICATION_FAILED",
            "Invalid authentication: it is not allowed to give credentials in more than one of the Authorization \
             HTTP header, the X-ClickHouse HTTP headers and the parameters of the URL",
        ));
    }
    if let Some(authorization) = authorization {
        return basic(&authorization).ok_or_else(|| {
            Exception::new(
                codes::AUTHENTICATION_FAILED,
                "AUTHENTICATION_FAILED",
                "Invalid authentication: the Authorization HTTP header is not of the scheme Basic",
            )
        });
    }
    let name = header_user
        .or_else(|| parameters.user.clone())
        .unwrap_or_else(|| User::default().name);
    let password = header_key
        .or_else(|| parameters.password.clone())
        .unwrap_or_default();
    Ok((name, password))
}

fn basic(authorization: &str) -> Option<(String, String)> {
    let (scheme, encoded) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(encoded.trim())
        .ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (name, password) = decoded.split_once(':').unwrap_or((&decoded, ""));
    Some((name.to_owned(), password.to_owned()))
}

/// A page of another site made the browser send this. Without a password, any page could.
fn is_cross_site(headers: &HeaderMap) -> bool {
    headers
        .get("Sec-Fetch-Site")
        .is_some_and(|site| site != "same-origin" && site != "none")
}

fn cross_site() -> Exception {
    Exception::new(
        codes::AUTHENTICATION_FAILED,
        "AUTHENTICATION_FAILED",
        "Pages of other sites may not send statements to a server without a password",
    )
}

fn failed(name: &str) -> Exception {
    Exception::new(
        codes::AUTHENTICATION_FAILED,
        "AUTHENTICATION_FAILED",
        format_args!(
            "{name}: Authentication failed: password is incorrect, or there is no user with such name."
        ),
    )
}

/// Compares without telling by its time where the difference is.
fn same(expected: &str, given: &str) -> bool {
    let differing = expected
        .bytes()
        .zip(given.bytes())
        .fold(0, |differing, (a, b)| differing | (a ^ b));
    std::hint::black_box(differing) == 0 && expected.len() == given.len()
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use hyper::header::{AUTHORIZATION, HeaderValue};

    use super::{Sender, User, Users};
    use crate::request::Parameters;

    fn check(
        user: &User,
        query: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<(), u32> {
        let users = Users {
            owner: user.clone(),
            reader: None,
        };
        sender(&users, query, headers).map(|sender| assert_eq!(sender, Sender::Owner))
    }

    fn sender(
        users: &Users,
        query: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Sender, u32> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        let parameters = Parameters::new(query, &headers).unwrap();
        users
            .check(&parameters, &headers)
            .map_err(|exception| exception.code())
    }

    #[test]
    fn a_reader_is_known_by_its_own_name_and_password() {
        let user = |name: &str, password: &str| User {
            name: name.into(),
            password: password.into(),
        };
        let users = Users {
            owner: user("ponix", "secret"),
            reader: Some(user("reader", "")),
        };
        let owner = sender(&users, "user=ponix&password=secret", &[]);
        assert_eq!(owner, Ok(Sender::Owner));
        assert_eq!(sender(&users, "user=reader", &[]), Ok(Sender::Reader));
        for query in ["user=reader&password=secret", "user=ponix", ""] {
            assert_eq!(sender(&users, query, &[]), Err(516), "{query}");
        }
        let elsewhere = [("sec-fetch-site", "cross-site")];
        assert_eq!(sender(&users, "user=reader", &elsewhere), Err(516));
    }

    #[test]
    fn each_way_of_giving_credentials_counts() {
        let user = User {
            name: "ponix".into(),
            password: "s:cret".into(),
        };
        assert_eq!(check(&user, "user=ponix&password=s%3Acret", &[]), Ok(()));
        assert_eq!(
            check(
                &user,
                "",
                &[
                    ("x-clickhouse-user", "ponix"),
                    ("x-clickhouse-key", "s:cret")
                ]
            ),
            Ok(())
        );
        assert_eq!(
            check(
                &user,
                "",
                &[(AUTHORIZATION.as_str(), "Basic cG9uaXg6czpjcmV0")]
            ),
            Ok(())
        );
    }

    #[test]
    fn wrong_missing_and_mixed_ones_are_refused() {
        let user = User {
            name: "ponix".into(),
            password: "secret".into(),
        };
        for (query, headers) in [
            ("", vec![]),
            ("user=ponix", vec![]),
            ("user=ponix&password=secretx", vec![]),
            ("user=ponix&password=secre", vec![]),
            ("user=default&password=secret", vec![]),
            (
                "user=ponix&password=secret",
                vec![("x-clickhouse-user", "ponix")],
            ),
            ("", vec![("authorization", "Bearer x")]),
            ("", vec![("authorization", "Basic !")]),
        ] {
            assert_eq!(
                check(&user, query, &headers),
                Err(516),
                "{query} {headers:?}"
            );
        }
    }

    #[test]
    fn without_a_configured_user_it_is_default_without_a_password() {
        assert_eq!(check(&User::default(), "", &[]), Ok(()));
        assert_eq!(check(&User::default(), "user=default", &[]), Ok(()));
        assert_eq!(
            check(&User::default(), "user=default&password=x", &[]),
            Err(516)
        );
    }

    #[test]
    fn pages_of_other_sites_need_a_password() {
        let open = User::default();
        assert_eq!(
            check(&open, "", &[("sec-fetch-site", "cross-site")]),
            Err(516)
        );
        assert_eq!(
            check(&open, "", &[("sec-fetch-site", "same-site")]),
            Err(516)
        );
        assert_eq!(check(&open, "", &[("sec-fetch-site", "none")]), Ok(()));
        let closed = User {
            name: "a".into(),
            password: "b".into(),
        };
        assert_eq!(
            check(
                &closed,
                "user=a&password=b",
                &[("sec-fetch-site", "cross-site")]
            ),
            Ok(())
        );
    }

    #[test]
    fn a_password_is_never_printed() {
        assert!(
            !format!(
                "{:?}",
                User {
                    name: "a".into(),
                    password: "hidden".into()
                }
            )
            .contains("hidden")
        );
    }
}
