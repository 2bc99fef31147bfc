//! The template functions: those of Go, sprig and Helm that Istio's charts use. Pure. Unknown names are an error when a
//! chart is loaded.

mod logic;
mod maps;
mod text;
mod yaml;

use crate::{
    budget::{Budget, EvalError},
    value::Value,
};

pub use text::parse_int;
pub use yaml::from_yaml;

/// The type of a parameter, checked like Go's reflection: a float is not an int, nil is not a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Param {
    Any,
    Bool,
    Int,
    Str,
    Map,
}

impl Param {
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Str => "string",
            Self::Map => "map[string]interface {}",
        }
    }
}

/// A template function.
#[derive(Debug)]
pub struct Function {
    pub name: &'static str,
    pub fixed: &'static [Param],
    /// The type of variadic arguments, if allowed.
    pub rest: Option<Param>,
    pub body: FunctionBody,
}

/// A function that needs only its arguments, whose types are already checked.
pub type PlainFunction = fn(&[Value], &Budget) -> Result<Value, EvalError>;

/// The implementation of a function.
#[derive(Debug, Clone, Copy)]
pub enum FunctionBody {
    Plain(PlainFunction),
    Special(SpecialFunction),
}

/// Functions implemented by the evaluator, because they run templates, evaluate arguments lazily, or use a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialFunction {
    And,
    Or,
    Include,
    Tpl,
    FromYaml,
}

/// Returns a function by name.
pub fn find(name: &str) -> Option<&'static Function> {
    TABLE.iter().find(|function| function.name == name)
}

const fn plain(name: &'static str, fixed: &'static [Param], body: PlainFunction) -> Function {
    Function { name, fixed, rest: None, body: FunctionBody::Plain(body) }
}

const fn variadic(name: &'static str, fixed: &'static [Param], rest: Param, body: PlainFunction) -> Function {
    Function { name, fixed, rest: Some(rest), body: FunctionBody::Plain(body) }
}

const fn special(name: &'static str, fixed: &'static [Param], rest: Option<Param>, body: SpecialFunction) -> Function {
    Function { name, fixed, rest, body: FunctionBody::Special(body) }
}

use Param::{Any, Bool, Int, Map, Str};

static TABLE: &[Function] = &[
    special("and", &[Any], Some(Any), SpecialFunction::And),
    special("or", &[Any], Some(Any), SpecialFunction::Or),
    special("include", &[Str, Any], None, SpecialFunction::Include),
    special("tpl", &[Str, Any], None, SpecialFunction::Tpl),
    plain("not", &[Any], logic::not),
    variadic("eq", &[Any], Any, logic::eq),
    plain("ne", &[Any, Any], logic::ne),
    plain("gt", &[Any, Any], logic::gt),
    plain("len", &[Any], logic::len),
    variadic("index", &[Any], Any, logic::index),
    variadic("coalesce", &[], Any, logic::coalesce),
    variadic("default", &[Any], Any, logic::default),
    plain("ternary", &[Any, Any, Bool], logic::ternary),
    plain("fail", &[Str], logic::fail),
    plain("required", &[Str, Any], logic::required),
    plain("has", &[Any, Any], logic::has),
    variadic("list", &[], Any, logic::list),
    plain("lookup", &[Str, Str, Str, Str], maps::lookup),
    variadic("dict", &[], Any, maps::dict),
    variadic("dig", &[], Any, maps::dig),
    plain("deepCopy", &[Any], maps::deep_copy),
    plain("hasKey", &[Map, Str], maps::has_key),
    variadic("merge", &[Map], Map, maps::merge),
    variadic("mergeOverwrite", &[Map], Map, maps::merge_overwrite),
    variadic("mustMergeOverwrite", &[Map], Map, maps::merge_overwrite),
    variadic("pick", &[Map], Str, maps::pick),
    plain("set", &[Map, Str, Any], maps::set),
    plain("unset", &[Map, Str], maps::unset),
    variadic("print", &[], Any, text::print),
    variadic("printf", &[Str], Any, text::printf),
    variadic("cat", &[], Any, text::cat),
    plain("contains", &[Str, Str], text::contains),
    plain("indent", &[Int, Str], text::indent),
    plain("nindent", &[Int, Str], text::nindent),
    plain("int", &[Any], text::int),
    variadic("quote", &[], Any, text::quote),
    plain("regexMatch", &[Str, Str], text::regex_match),
    plain("repeat", &[Int, Str], text::repeat),
    plain("replace", &[Str, Str, Str], text::replace),
    plain("split", &[Str, Str], text::split),
    plain("splitList", &[Str, Str], text::split_list),
    plain("toString", &[Any], text::to_string),
    plain("trim", &[Str], text::trim),
    plain("trimPrefix", &[Str, Str], text::trim_prefix),
    plain("trimSuffix", &[Str, Str], text::trim_suffix),
    plain("trunc", &[Int, Str], text::trunc),
    special("fromYaml", &[Str], None, SpecialFunction::FromYaml),
    plain("toYaml", &[Any], yaml::to_yaml),
    plain("toPrettyJson", &[Any], yaml::to_pretty_json),
];

/// The error for arguments that don't match the table, which can't happen: the evaluator checks them.
fn mismatch<T>() -> Result<T, EvalError> {
    Err(EvalError::failed("argument types don't match the function table"))
}

#[cfg(test)]
mod tests;
