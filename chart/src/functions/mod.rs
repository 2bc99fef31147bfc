//! The functions that templates may call: what Istio's charts use of Go's, sprig's and Helm's, and no more.
//! Pure: values in, a value out. A name that is not in the table is an error when a chart is loaded.

mod logic;
mod maps;
mod text;
mod yaml;

use crate::{
    budget::{Budget, Stop},
    value::Value,
};

pub use text::parse_int;
pub use yaml::from_yaml;

/// The type of an argument, checked as Go's reflection does: a float is no int, nil is no string.
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

/// A function by the name that templates know it by.
#[derive(Debug)]
pub struct Function {
    pub name: &'static str,
    pub fixed: &'static [Param],
    /// The type of further arguments, if there may be any.
    pub rest: Option<Param>,
    pub body: Body,
}

/// What a plain function is: arguments in, a value out. The arguments have been checked against the table.
pub type Plain = fn(&[Value], &Budget) -> Result<Value, Stop>;

/// Who runs the function.
#[derive(Debug, Clone, Copy)]
pub enum Body {
    Plain(Plain),
    Special(Special),
}

/// Functions that need the evaluator: they run templates, don't evaluate all of their arguments, or remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    And,
    Or,
    Include,
    Tpl,
    FromYaml,
}

/// The function of that name.
pub fn find(name: &str) -> Option<&'static Function> {
    TABLE.iter().find(|function| function.name == name)
}

const fn plain(name: &'static str, fixed: &'static [Param], body: Plain) -> Function {
    Function { name, fixed, rest: None, body: Body::Plain(body) }
}

const fn variadic(name: &'static str, fixed: &'static [Param], rest: Param, body: Plain) -> Function {
    Function { name, fixed, rest: Some(rest), body: Body::Plain(body) }
}

const fn special(name: &'static str, fixed: &'static [Param], rest: Option<Param>, body: Special) -> Function {
    Function { name, fixed, rest, body: Body::Special(body) }
}

use Param::{Any, Bool, Int, Map, Str};

static TABLE: &[Function] = &[
    special("and", &[Any], Some(Any), Special::And),
    special("or", &[Any], Some(Any), Special::Or),
    special("include", &[Str, Any], None, Special::Include),
    special("tpl", &[Str, Any], None, Special::Tpl),
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
    special("fromYaml", &[Str], None, Special::FromYaml),
    plain("toYaml", &[Any], yaml::to_yaml),
    plain("toPrettyJson", &[Any], yaml::to_pretty_json),
];

/// The table has checked the arguments; this only says so to the compiler.
fn mismatch<T>() -> Result<T, Stop> {
    Err(Stop::failed("arguments of other types than the table of functions allows"))
}

#[cfg(test)]
mod tests;
