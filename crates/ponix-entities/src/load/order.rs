//! The order of the entities: what is referred to comes first.

use super::{Complaints, LoadError, Names, Source};

/// Returns the positions of the sources, each behind those it refers to. Circles are complained
/// about, and left in.
pub(super) fn order(
    sources: &[Source],
    names: &Names<'_>,
    errors: &mut Vec<LoadError>,
) -> Vec<usize> {
    let mut walk = Walk {
        sources,
        names,
        states: vec![State::New; sources.len()],
        order: Vec::with_capacity(sources.len()),
    };
    for index in 0..sources.len() {
        walk.visit(index, errors);
    }
    walk.order
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Open,
    Done,
}

struct Walk<'a> {
    sources: &'a [Source],
    names: &'a Names<'a>,
    states: Vec<State>,
    order: Vec<usize>,
}

impl Walk<'_> {
    fn visit(&mut self, index: usize, errors: &mut Vec<LoadError>) {
        if self.states[index] != State::New {
            return;
        }
        self.states[index] = State::Open;
        let source = &self.sources[index];
        let spec = &source.document.spec;
        let parent = spec.derivation.iter().map(|derivation| &derivation.parent);
        let referred = spec.persistence.foreign_keys.iter().map(|key| &key.entity);
        for name in parent.chain(referred) {
            // What does not exist is complained about where it is used.
            let Some(other) = self.names.position(&name.value) else {
                continue;
            };
            if other != index && self.states[other] == State::Open {
                let path = &source.path;
                Complaints::new(path, errors).at(
                    name,
                    format!("{:?} refers back to this entity: a circle", name.value),
                );
            }
            if other != index {
                self.visit(other, errors);
            }
        }
        self.states[index] = State::Done;
        self.order.push(index);
    }
}
