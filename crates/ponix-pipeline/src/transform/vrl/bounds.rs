//! Looks after the variables of a program: what it keeps in them is bounded as the event is.
//!
//! The runtime tells of each step, but not what a variable holds; so each assignment to one is
//! followed by a call that looks.

use vrl::parser::Program;
use vrl::parser::ast::{
    Assignment, AssignmentTarget, Block, Container, Expr, FunctionArgument, FunctionCall,
    FunctionClosure, Ident, IfStatement, Node, Op, RootExpr,
};

use super::functions::BOUNDED;

/// Writes a look at the variable behind each assignment to one.
pub(super) fn bounded(program: Program) -> Program {
    let mut bounded = Vec::with_capacity(program.0.len());
    for root in program.0 {
        let (span, root) = root.take();
        match root {
            RootExpr::Expr(expr) => {
                let look = look(&expr);
                bounded.push(Node::new(span, RootExpr::Expr(inside(expr))));
                bounded.extend(look.map(|look| Node::new(span, RootExpr::Expr(look))));
            }
            error @ RootExpr::Error(_) => bounded.push(Node::new(span, error)),
        }
    }
    Program(bounded)
}

fn block(block: Node<Block>) -> Node<Block> {
    block.map(|block| {
        let mut bounded = Vec::with_capacity(block.0.len());
        for expr in block.0 {
            let look = look(&expr);
            bounded.push(inside(expr));
            bounded.extend(look);
        }
        Block(bounded)
    })
}

/// The call that looks at the variable of an assignment. Where the assignment is the last of a
/// block it gives the same value.
fn look(expr: &Node<Expr>) -> Option<Node<Expr>> {
    let Expr::Assignment(assignment) = expr.inner() else {
        return None;
    };
    let (Assignment::Single { target, .. } | Assignment::Infallible { ok: target, .. }) =
        assignment.inner();
    let AssignmentTarget::Internal(variable, None) = target.inner() else {
        return None;
    };
    let span = expr.span();
    let argument = FunctionArgument {
        ident: None,
        expr: Node::new(span, Expr::Variable(Node::new(span, variable.clone()))),
    };
    let call = FunctionCall {
        ident: Node::new(span, Ident::new(BOUNDED)),
        abort_on_error: false,
        arguments: vec![Node::new(span, argument)],
        closure: None,
    };
    Some(Node::new(span, Expr::FunctionCall(Node::new(span, call))))
}

/// Does the same with the blocks in an expression.
fn inside(expr: Node<Expr>) -> Node<Expr> {
    expr.map(|expr| match expr {
        Expr::Container(node) => Expr::Container(node.map(|container| match container {
            Container::Block(inner) => Container::Block(block(inner)),
            other => other,
        })),
        Expr::IfStatement(node) => Expr::IfStatement(node.map(|statement| IfStatement {
            if_node: block(statement.if_node),
            else_node: statement.else_node.map(block),
            ..statement
        })),
        Expr::Op(node) => Expr::Op(node.map(|Op(left, code, right)| {
            Op(Box::new(inside(*left)), code, Box::new(inside(*right)))
        })),
        Expr::Assignment(node) => Expr::Assignment(node.map(|assignment| match assignment {
            Assignment::Single { target, op, expr } => Assignment::Single {
                target,
                op,
                expr: Box::new(inside(*expr)),
            },
            Assignment::Infallible { ok, err, op, expr } => Assignment::Infallible {
                ok,
                err,
                op,
                expr: Box::new(inside(*expr)),
            },
        })),
        Expr::FunctionCall(node) => Expr::FunctionCall(node.map(|call| FunctionCall {
            closure: call.closure.map(|closure| {
                closure.map(|closure| FunctionClosure {
                    block: block(closure.block),
                    ..closure
                })
            }),
            ..call
        })),
        other => other,
    })
}
