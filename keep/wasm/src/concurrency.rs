// SPDX-License-Identifier: Apache-2.0

//! Detection of WASI 0.3 features: asynchronous functions, streams and futures. Wasmtime's support for them has a
//! cost for every component of an engine, so an engine has it only if it is used.

use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentDefinedType, ComponentType,
    ComponentTypeDeclaration, InstanceTypeDeclaration, Payload,
};

use crate::segments::any_section;

/// True if an application is such a component. False for one that cannot be parsed: the compiler will report the
/// error.
pub fn is_used(application: &[u8]) -> bool {
    any_section(application, |section| match section {
        Payload::ComponentTypeSection(types) => {
            let mut types = types.clone().into_iter().flatten();
            types.any(|it| has_asynchronous_part(&it))
        }
        Payload::ComponentCanonicalSection(functions) => {
            let mut functions = functions.clone().into_iter().flatten();
            functions.any(|function| is_asynchronous(&function))
        }
        _ => false,
    })
}

/// True for a type that contains an asynchronous function, a stream or a future.
fn has_asynchronous_part(it: &ComponentType<'_>) -> bool {
    match it {
        ComponentType::Func(function) => function.async_,
        ComponentType::Defined(defined) => matches!(
            defined,
            ComponentDefinedType::Stream(_) | ComponentDefinedType::Future(_)
        ),
        ComponentType::Component(parts) => parts.iter().any(
            |part| matches!(part, ComponentTypeDeclaration::Type(it) if has_asynchronous_part(it)),
        ),
        ComponentType::Instance(parts) => parts.iter().any(
            |part| matches!(part, InstanceTypeDeclaration::Type(it) if has_asynchronous_part(it)),
        ),
        ComponentType::Resource { .. } => false,
    }
}

/// True for all but the functions that components have always had.
fn is_asynchronous(function: &CanonicalFunction) -> bool {
    match function {
        CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. } => {
            options.contains(&CanonicalOption::Async)
        }
        CanonicalFunction::ResourceNew { .. }
        | CanonicalFunction::ResourceDrop { .. }
        | CanonicalFunction::ResourceRep { .. } => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_that_use_concurrency_are_recognized() {
        let is_used = |text: &str| is_used(&wat::parse_str(text).unwrap());
        for without in [
            "(module)",
            "(component)",
            "(component (type (func (result (list u8)))))",
            "(component (type $r (resource (rep i32))) (core func (canon resource.new $r)))",
            "(component (import \"i\" (instance (export \"f\" (func (param \"a\" u8))))))",
        ] {
            assert!(!is_used(without), "{without}");
        }
        for with in [
            "(component (import \"f\" (func async)))",
            "(component (type (stream u8)))",
            "(component (type (future)))",
            "(component (import \"i\" (instance (export \"f\" (func async (param \"a\" u8))))))",
            "(component (import \"i\" (instance (type $s (stream)) (export \"f\" (func (result $s))))))",
            "(component (component (core func (canon waitable-set.new))))",
            "(component (type (component (import \"f\" (func async)))))",
        ] {
            assert!(is_used(with), "{with}");
        }
    }

    #[test]
    fn truncated_components_use_no_concurrency() {
        let whole = wat::parse_str("(component (component (type (stream u8))))").unwrap();
        for length in 0..whole.len() {
            is_used(&whole[..length]);
        }
        assert!(!is_used(b""));
    }
}
