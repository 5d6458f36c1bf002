//! What is done to the fields of an event between decoding and storing.

#[cfg(feature = "vrl")]
mod vrl;
#[cfg(feature = "vrl")]
pub(crate) use self::vrl::Program;

use ponix_entities::loader::LoadError;

use crate::spec::{Pipeline, Place};

/// Something wrong with a program.
#[derive(Debug)]
pub(crate) struct Problem {
    /// Line and column in the program, counted from 1.
    pub(crate) place: Place,
    pub(crate) message: String,
}

impl Problem {
    /// The error at the place of the document, or of the program's own file.
    pub(crate) fn into_error(self, pipeline: &Pipeline) -> LoadError {
        let origin = pipeline
            .transform
            .as_ref()
            .map(|transform| &transform.origin);
        let (path, place) = match origin {
            Some(origin) => origin.locate(&pipeline.path, self.place),
            None => (pipeline.path.clone(), None),
        };
        LoadError {
            path,
            place,
            message: self.message,
        }
    }
}

#[cfg(not(feature = "vrl"))]
pub(crate) use without::Program;

#[cfg(not(feature = "vrl"))]
mod without {
    use uuid::Uuid;

    use super::Problem;
    use crate::decode::{DecodeError, FieldMap, Message};
    use crate::spec::Transform;

    /// There is none in a binary without the feature.
    #[derive(Debug)]
    pub(crate) enum Program {}

    impl Program {
        pub(crate) fn compile(_: &Transform) -> Result<Self, Vec<Problem>> {
            Err(vec![Problem {
                place: None,
                message: "transform needs VRL, which this binary was built without: build with --features vrl, or take a release".to_owned(),
            }])
        }

        pub(crate) fn run(
            &self,
            _: FieldMap,
            _: &Message<'_>,
            _: Uuid,
        ) -> Result<Option<FieldMap>, DecodeError> {
            match *self {}
        }
    }
}
