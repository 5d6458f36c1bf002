//! The functions that programs have: VRL's own but for those that are not functions of the message.

use vrl::compiler::function::{
    ArgumentList, Compiled, Example, Function, FunctionCompileContext, Parameter,
};
use vrl::compiler::state::{TypeInfo, TypeState};
use vrl::compiler::value::kind;
use vrl::compiler::{Context, Expression, ExpressionError, FunctionExpression, Resolved, TypeDef};
use vrl::diagnostic::{DiagnosticMessage, Label, Span};

use vrl::value::Value;

use super::size;

/// The message of an abort that is `drop()`.
pub(super) const DROPPED: &str = "\0dropped";
/// The name of [`Bounded`]; no program can write it.
pub(super) const BOUNDED: &str = "__bounded";
/// Bytes of a variable at most.
const VARIABLE_BYTES_MAX: usize = 64 << 20;

/// Items that `set` may make of an index.
const ITEMS_MAX: u64 = 100_000;

/// What tells why a function is not there.
const CLOCK: &str = "it reads the clock";
const YEAR: &str = "it takes a missing year from the clock: use parse_regex and parse_timestamp with %published_at";
const RANDOM: &str = "it gives another value each time: %identity is the same on every delivery";
const LOG: &str = "a program runs again on every delivery: return what is to be seen as a field";
/// Functions that give something else on the next delivery of a message.
const REFUSED: [(&str, &str); 11] = [
    ("now", "it reads the clock: use %published_at"),
    ("get_timezone_name", CLOCK),
    ("parse_klog", YEAR),
    ("parse_linux_authorization", YEAR),
    ("parse_syslog", YEAR),
    ("random_bool", RANDOM),
    ("random_bytes", RANDOM),
    ("random_float", RANDOM),
    ("random_int", RANDOM),
    ("uuid_v4", RANDOM),
    ("uuid_v7", RANDOM),
];

/// Returns all functions.
pub(super) fn all() -> Vec<Box<dyn Function>> {
    let mut functions: Vec<Box<dyn Function>> = vec![Box::new(Drop), Box::new(Bounded)];
    for function in vrl::stdlib::all() {
        let name = function.identifier();
        let refused = REFUSED.iter().find(|(refused, _)| *refused == name);
        match refused {
            Some((_, why)) => functions.push(Box::new(Refused { function, why })),
            None if name == "log" => functions.push(Box::new(Refused { function, why: LOG })),
            None if name == "set" => functions.push(Box::new(Set(function))),
            None => functions.push(function),
        }
    }
    functions
}

/// A function that programs may not use.
#[derive(Debug)]
struct Refused {
    function: Box<dyn Function>,
    why: &'static str,
}

#[derive(Debug, thiserror::Error)]
#[error("{name} cannot be used in a pipeline")]
struct RefusedError {
    name: &'static str,
    why: &'static str,
    span: Span,
}

impl DiagnosticMessage for RefusedError {
    fn code(&self) -> usize {
        0
    }

    fn labels(&self) -> Vec<Label> {
        vec![Label::primary(self.why, self.span)]
    }
}

impl Function for Refused {
    fn identifier(&self) -> &'static str {
        self.function.identifier()
    }

    fn usage(&self) -> &'static str {
        self.function.usage()
    }

    fn category(&self) -> &'static str {
        self.function.category()
    }

    fn return_kind(&self) -> u16 {
        self.function.return_kind()
    }

    fn examples(&self) -> &'static [Example] {
        &[]
    }

    fn parameters(&self) -> &'static [Parameter] {
        self.function.parameters()
    }

    fn compile(
        &self,
        _: &TypeState,
        context: &mut FunctionCompileContext,
        _: ArgumentList,
    ) -> Compiled {
        Err(Box::new(RefusedError {
            name: self.function.identifier(),
            why: self.why,
            span: context.span(),
        }))
    }
}

/// `set`, which fills a list up to an index from the event, within bounds.
#[derive(Debug)]
struct Set(Box<dyn Function>);

#[derive(Debug, Clone)]
struct SetExpression {
    inner: Box<dyn Expression>,
    path: Box<dyn Expression>,
}

impl Function for Set {
    fn identifier(&self) -> &'static str {
        self.0.identifier()
    }

    fn usage(&self) -> &'static str {
        self.0.usage()
    }

    fn category(&self) -> &'static str {
        self.0.category()
    }

    fn return_kind(&self) -> u16 {
        self.0.return_kind()
    }

    fn examples(&self) -> &'static [Example] {
        &[]
    }

    fn parameters(&self) -> &'static [Parameter] {
        self.0.parameters()
    }

    fn compile(
        &self,
        state: &TypeState,
        context: &mut FunctionCompileContext,
        arguments: ArgumentList,
    ) -> Compiled {
        let path = arguments.required("path");
        let inner = self.0.compile(state, context, arguments)?;
        Ok(Box::new(SetExpression { inner, path }))
    }
}

impl Expression for SetExpression {
    fn resolve(&self, context: &mut Context<'_>) -> Resolved {
        let is_far = |value: &Value| matches!(value, Value::Integer(number) if number.unsigned_abs() > ITEMS_MAX);
        let path = self.path.resolve(context)?;
        if path.as_array().is_some_and(|path| path.iter().any(is_far)) {
            return Err(format!("a list may have {ITEMS_MAX} items at most").into());
        }
        self.inner.resolve(context)
    }

    fn type_info(&self, state: &TypeState) -> TypeInfo {
        let mut info = self.inner.type_info(state);
        info.result = info.result.fallible();
        info
    }
}

/// `drop()`: the event is settled and gives no row.
#[derive(Debug)]
struct Drop;

#[derive(Debug, Clone)]
struct DropExpression(Span);

impl Function for Drop {
    fn identifier(&self) -> &'static str {
        "drop"
    }

    fn usage(&self) -> &'static str {
        "Ends the program; the event gives no row."
    }

    fn category(&self) -> &'static str {
        "Event"
    }

    fn return_kind(&self) -> u16 {
        kind::NULL
    }

    fn examples(&self) -> &'static [Example] {
        &[]
    }

    fn compile(
        &self,
        _: &TypeState,
        context: &mut FunctionCompileContext,
        _: ArgumentList,
    ) -> Compiled {
        Ok(DropExpression(context.span()).as_expr())
    }
}

impl FunctionExpression for DropExpression {
    fn resolve(&self, _: &mut Context<'_>) -> Resolved {
        Err(ExpressionError::Abort {
            span: self.0,
            message: Some(DROPPED.to_owned()),
        })
    }

    fn type_def(&self, _: &TypeState) -> TypeDef {
        TypeDef::null().infallible()
    }
}

/// Gives back the value of a variable, unless it has grown too large.
#[derive(Debug)]
struct Bounded;

#[derive(Debug, Clone)]
struct BoundedExpression(Box<dyn Expression>);

impl Function for Bounded {
    fn identifier(&self) -> &'static str {
        BOUNDED
    }

    fn usage(&self) -> &'static str {
        "Is written behind assignments to variables by the compiler."
    }

    fn category(&self) -> &'static str {
        "Event"
    }

    fn return_kind(&self) -> u16 {
        kind::ANY
    }

    fn examples(&self) -> &'static [Example] {
        &[]
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] =
            &[Parameter::required("value", kind::ANY, "The variable.")];
        PARAMETERS
    }

    fn compile(
        &self,
        _: &TypeState,
        _: &mut FunctionCompileContext,
        arguments: ArgumentList,
    ) -> Compiled {
        Ok(BoundedExpression(arguments.required("value")).as_expr())
    }
}

impl FunctionExpression for BoundedExpression {
    fn resolve(&self, context: &mut Context<'_>) -> Resolved {
        let value = self.0.resolve(context)?;
        if size(&value) > VARIABLE_BYTES_MAX {
            return Err(ExpressionError::Abort {
                span: Span::default(),
                message: Some(format!(
                    "a variable grows beyond {VARIABLE_BYTES_MAX} bytes"
                )),
            });
        }
        Ok(value)
    }

    fn type_def(&self, state: &TypeState) -> TypeDef {
        self.0.type_def(state).infallible()
    }
}
