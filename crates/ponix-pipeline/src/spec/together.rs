//! What several pipelines of one service may not share.

use std::collections::HashMap;
use std::path::Path;

use ponix_entities::loader::LoadError;

use super::{Pipeline, Place};

/// Tells what pipelines of one service share that is for one of them alone: a name, a consumer, the
/// stream of the dead letters, a path, and subjects of one stream that are not the same.
pub fn clashes(pipelines: &[Pipeline]) -> Vec<LoadError> {
    let mut errors = Vec::new();
    let mut owners: HashMap<(&str, String), &Pipeline> = HashMap::new();
    for pipeline in pipelines {
        let (source, places) = (&pipeline.source, pipeline.places);
        let consumer = format!("{} of stream {}", source.consumer, source.stream);
        let mut own = vec![
            ("name", pipeline.name.clone(), places.name),
            ("consumer", consumer, places.consumer),
            (
                "dead-letter stream",
                pipeline.dead_letters.stream.clone(),
                places.dead_letters,
            ),
        ];
        own.extend(
            pipeline
                .http
                .iter()
                .map(|http| ("path", http.path.clone(), places.path)),
        );
        for (what, name, place) in own {
            if let Some(owner) = owners.get(&(what, name.clone())) {
                let other = of(owner, &pipeline.path);
                let message =
                    format!("{what} {name} is that of {other} too: it is for one pipeline");
                errors.push(error(pipeline, place, message));
            } else {
                owners.insert((what, name), pipeline);
            }
        }
    }
    for (index, pipeline) in pipelines.iter().enumerate() {
        errors.extend(
            pipelines[..index]
                .iter()
                .filter_map(|other| streams(pipeline, other)),
        );
    }
    errors
}

/// What is wrong with the streams of two pipelines.
fn streams(pipeline: &Pipeline, other: &Pipeline) -> Option<LoadError> {
    let (source, place) = (&pipeline.source, pipeline.places.stream);
    let (stream, owner) = (&source.stream, of(other, &pipeline.path));
    if *stream == other.source.stream {
        (source.subjects != other.source.subjects).then(|| {
            let message = format!("stream {stream} has other subjects in {owner}");
            error(pipeline, place, message)
        })
    } else if *stream == other.dead_letters.stream {
        // Reading dead letters is a use; their subjects are then those of the dead letters.
        let subjects = format!("{}.>", other.dead_letters.subject_prefix);
        (source.subjects != [subjects.as_str()]).then(|| {
            let message = format!(
                "stream {stream} holds the dead letters of {owner}: its subjects are [{subjects}]"
            );
            error(pipeline, place, message)
        })
    } else {
        let mut pairs = source.subjects.iter().flat_map(|subject| {
            let others = other.source.subjects.iter();
            others.map(move |other| (subject, other))
        });
        let (subject, theirs) = pairs.find(|(one, two)| ponix_wire::overlap(one, two))?;
        let message = format!(
            "subject {subject} of stream {stream} overlaps with {theirs} of stream {}, in {owner}: a subject belongs to one stream",
            other.source.stream
        );
        Some(error(pipeline, place, message))
    }
}

fn of(owner: &Pipeline, path: &Path) -> String {
    if owner.path == path {
        format!("pipeline {:?}", owner.name)
    } else {
        format!("pipeline {:?} in {}", owner.name, owner.path.display())
    }
}

fn error(pipeline: &Pipeline, place: Place, message: String) -> LoadError {
    LoadError {
        path: pipeline.path.clone(),
        place,
        message,
    }
}
