//! The shape of a document against the JSON schema of its type: keys, lists, words.
//!
//! The deserializer stops at the first thing that is wrong; this goes on.

use schemars::JsonSchema;
use serde_json::Value as Json;
use serde_saphyr::Spanned;

use super::node::Node;
use super::{Complaints, place};

/// Keys are no more alike when more than this share of the longer one differs.
const DISTANCE_SHARE_MAX: f64 = 0.5;
/// More of what may stand in a place is not listed.
const LISTED_MAX: usize = 16;
/// What an error ends with that says that a key is missing.
pub(super) const NEEDED: &str = ", which is needed";
/// Longest text of a document that an error shows, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// Returns the name most like `name`, if one is like it at all.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |other: &str| strsim::damerau_levenshtein(other, name);
    let found = known.into_iter().min_by_key(|other| distance(other))?;
    let length = found.chars().count().max(name.chars().count());
    (distance(found) as f64 <= DISTANCE_SHARE_MAX * length as f64).then_some(found)
}

/// Complains about everything in a document that its type has no place for.
pub(super) fn check<D: JsonSchema>(root: &Spanned<Node>, complaints: &mut Complaints<'_>) {
    let schema = schemars::schema_for!(D).to_value();
    let properties = &schema["properties"];
    // What is of another kind has other keys.
    for head in ["apiVersion", "kind"] {
        let expected = properties[head]["const"].as_str();
        if let (Some(node), Some(expected)) = (root.value.get(head), expected)
            && let Node::Text(found) = &node.value
            && found != expected
        {
            let found = shown(found);
            complaints.at(node, format!("{head} is {found:?}, expected {expected}"));
            return;
        }
    }
    let shape = Shape { root: &schema };
    shape.check(&schema, root, "the document", complaints);
}

struct Shape<'a> {
    root: &'a Json,
}

impl<'a> Shape<'a> {
    /// Follows references, and leaves out that a value may be null.
    fn resolve(&self, schema: &'a Json) -> &'a Json {
        if let Some(reference) = schema["$ref"].as_str() {
            let pointer = reference.trim_start_matches('#');
            return self
                .root
                .pointer(pointer)
                .map_or(schema, |s| self.resolve(s));
        }
        let Some(options) = schema["anyOf"].as_array() else {
            return schema;
        };
        let mut some = options.iter().filter(|option| option["type"] != "null");
        match (some.next(), some.next()) {
            (Some(only), None) => self.resolve(only),
            _ => schema,
        }
    }

    fn check(
        &self,
        schema: &'a Json,
        node: &Spanned<Node>,
        name: &str,
        complaints: &mut Complaints<'_>,
    ) {
        let resolved = self.resolve(schema);
        if let Some(options) = resolved["oneOf"].as_array() {
            return self.check_options(options, node, name, complaints);
        }
        if let Some(words) = resolved["enum"].as_array() {
            let words: Vec<&str> = words.iter().filter_map(Json::as_str).collect();
            return check_word(&words, node, name, complaints);
        }
        let types = types(resolved);
        let is_type = |name: &str| types.contains(&name);
        if matches!(node.value, Node::Null) && (is_type("null") || has_null(schema)) {
            return;
        }
        match &node.value {
            Node::Map(members) if is_type("object") => {
                self.check_members(resolved, members, node, name, complaints);
            }
            Node::List(items) if is_type("array") => {
                for item in items {
                    self.check(&resolved["items"], item, name, complaints);
                }
            }
            found if is_scalar_wrong(&types, found) => {
                let (found, expected) = (found.what(), in_words(&types));
                complaints.at(node, format!("{name} is {found}, expected {expected}"));
            }
            _ => {}
        }
    }

    fn check_members(
        &self,
        schema: &'a Json,
        members: &[(Spanned<String>, Spanned<Node>)],
        node: &Spanned<Node>,
        name: &str,
        complaints: &mut Complaints<'_>,
    ) {
        let Some(properties) = schema["properties"].as_object() else {
            let additional = &schema["additionalProperties"];
            for (key, value) in members.iter().filter(|_| additional.is_object()) {
                self.check(additional, value, &key.value, complaints);
            }
            return;
        };
        let required = schema["required"].as_array();
        let mut missing: Vec<&str> = required
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .collect();
        missing.retain(|key| !members.iter().any(|(member, _)| member.value == *key));
        for (key, value) in members {
            if let Some(property) = properties.get(&key.value) {
                self.check(property, value, &key.value, complaints);
                continue;
            }
            let meant = properties.keys().map(String::as_str);
            let meant = nearest(&key.value, meant);
            // The misspelt key is what is missing.
            missing.retain(|missing| Some(*missing) != meant);
            let hint = hint(meant, properties.keys().map(String::as_str));
            let key_shown = shown(&key.value);
            complaints.at(key, format!("{name} has no key {key_shown:?}{hint}"));
        }
        for key in missing {
            // A mapping begins with its first key; the place of a mapping in braces is its own.
            let at = members
                .first()
                .map_or(node.referenced, |(key, _)| key.referenced);
            complaints.at_place(place(at), format!("{name} has no {key:?}{NEEDED}"));
        }
    }

    /// One of several forms: a word, or a mapping with the key of one of them.
    fn check_options(
        &self,
        options: &'a [Json],
        node: &Spanned<Node>,
        name: &str,
        complaints: &mut Complaints<'_>,
    ) {
        let words: Vec<&str> = options.iter().flat_map(words).collect();
        let keys = || {
            options
                .iter()
                .filter_map(|option| option["properties"].as_object())
        };
        let keys: Vec<&str> = keys().flat_map(|p| p.keys().map(String::as_str)).collect();
        match &node.value {
            Node::Map(members) if !keys.is_empty() => {
                let (Some((key, value)), 1) = (members.first(), members.len()) else {
                    let keys = keys.join(", ");
                    complaints.at(node, format!("{name} needs just one of {keys}"));
                    return;
                };
                let found = options.iter().find_map(|o| o["properties"].get(&key.value));
                if let Some(option) = found {
                    self.check(option, value, &key.value, complaints);
                    return;
                }
                let meant = nearest(&key.value, keys.iter().copied());
                let hint = hint(meant, keys.into_iter().chain(words));
                let key_shown = shown(&key.value);
                complaints.at(key, format!("{name} has no key {key_shown:?}{hint}"));
            }
            Node::Text(_) if keys.is_empty() || !words.is_empty() => {
                check_word(&words, node, name, complaints);
            }
            found => {
                let found = found.what();
                let expected: Vec<&str> = words.into_iter().chain(keys).collect();
                let expected = expected.join(", ");
                complaints.at(
                    node,
                    format!("{name} is {found}, expected one of {expected}"),
                );
            }
        }
    }
}

fn words(option: &Json) -> impl Iterator<Item = &str> {
    let many = option["enum"].as_array().into_iter().flatten();
    many.chain([&option["const"]]).filter_map(Json::as_str)
}

fn check_word(words: &[&str], node: &Spanned<Node>, name: &str, complaints: &mut Complaints<'_>) {
    let found = match &node.value {
        Node::Text(found) if words.contains(&found.as_str()) => return,
        Node::Text(found) => format!("{:?}", shown(found)),
        found => found.what().to_owned(),
    };
    let meant = match &node.value {
        Node::Text(found) => nearest(found, words.iter().copied()),
        _ => None,
    };
    let hint = hint(meant, words.iter().copied());
    complaints.at(node, format!("{name} is {found}{hint}"));
}

fn hint<'a>(meant: Option<&str>, known: impl Iterator<Item = &'a str>) -> String {
    if let Some(meant) = meant {
        return format!(", did you mean {meant:?}?");
    }
    let known: Vec<&str> = known.take(LISTED_MAX).collect();
    format!(", expected one of {}", known.join(", "))
}

fn types(schema: &Json) -> Vec<&str> {
    match &schema["type"] {
        Json::String(one) => vec![one],
        Json::Array(several) => several.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

fn has_null(schema: &Json) -> bool {
    let options = schema["anyOf"].as_array();
    options.is_some_and(|options| options.iter().any(|option| option["type"] == "null"))
}

/// Whether no value of these types looks like this one. What is a number or a word to YAML may be
/// meant as a text, and the other way round only the deserializer can tell.
fn is_scalar_wrong(types: &[&str], found: &Node) -> bool {
    if types.is_empty() {
        return false;
    }
    let is_type = |name: &str| types.contains(&name);
    match found {
        Node::Map(_) => !is_type("object"),
        Node::List(_) => !is_type("array"),
        Node::Text(_) => !is_type("string"),
        Node::Number => !["string", "number", "integer"].into_iter().any(is_type),
        Node::Bool => !["string", "boolean"].into_iter().any(is_type),
        Node::Null => !is_type("null"),
    }
}

fn in_words(types: &[&str]) -> String {
    let words = types.iter().filter_map(|name| match *name {
        "object" => Some("a mapping"),
        "array" => Some("a list"),
        "string" => Some("a text"),
        "integer" => Some("a whole number"),
        "number" => Some("a number"),
        "boolean" => Some("true or false"),
        _ => None,
    });
    words.collect::<Vec<_>>().join(" or ")
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}
