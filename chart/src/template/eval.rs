//! Evaluates templates with Go's scoping, nil handling and reference semantics.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    ast::{Command, Expr, Node, Pipeline, Template},
    frame::{Eval, Frame, LocatedError},
    parser,
};
use crate::{
    budget::{Budget, EvalError},
    format,
    functions::{self, Function, FunctionBody, Param, SpecialFunction},
    value::{Builtin, Map, Value},
};

/// The templates of a chart, by name.
pub type Templates = BTreeMap<Arc<str>, Arc<Template>>;

/// Adds the templates of one file. A later definition replaces an earlier one unless it is blank.
pub fn add_templates(to: &mut Templates, parsed: Vec<Template>) {
    for template in parsed {
        if !(template.is_blank() && to.contains_key(&template.name)) {
            to.insert(template.name.clone(), Arc::new(template));
        }
    }
}

/// The implementation of Helm's built-in objects: `.Files.Get`, `.Capabilities.*`.
pub trait BuiltinObjects {
    /// Returns a field, or the result of a method with these arguments; `None` if it doesn't exist.
    fn member(&self, builtin: Builtin, name: &str, arguments: &[Value]) -> Option<Value>;
}

/// How a block ended.
#[derive(PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

/// The state of an evaluation.
pub struct Engine<'a> {
    pub templates: &'a Templates,
    pub builtins: &'a dyn BuiltinObjects,
    pub budget: &'a Budget,
    /// The templates defined by `tpl` calls, innermost last.
    overlays: Vec<Templates>,
    /// The last input and result of `fromYaml`: Istio's base chart parses each of its large CRDs twice.
    last_yaml: Option<(Arc<str>, Value)>,
}

impl<'a> Engine<'a> {
    pub fn new(templates: &'a Templates, builtins: &'a dyn BuiltinObjects, budget: &'a Budget) -> Self {
        Self { templates, builtins, budget, overlays: Vec::new(), last_yaml: None }
    }

    /// Runs a template by name, appending to `out`.
    pub fn run(&mut self, name: &str, data: &Value, out: &mut String) -> Eval<()> {
        let found =
            self.overlays.iter().rev().find_map(|overlay| overlay.get(name)).or_else(|| self.templates.get(name));
        let Some(template) = found.cloned() else {
            let error = EvalError::failed(format!("no template {name:?}"));
            return Err(LocatedError { template: name.into(), line: 0, error });
        };
        let mut frame = Frame::new(&template.name, data);
        let _level = self.budget.enter().map_err(|error| frame.locate(error))?;
        self.walk(&mut frame, data, &template.body, out).map(drop)
    }

    fn walk(&mut self, frame: &mut Frame, dot: &Value, nodes: &[Node], out: &mut String) -> Eval<Flow> {
        let budget = self.budget;
        let _level = budget.enter().map_err(|error| frame.locate(error))?;
        for node in nodes {
            budget.spend(1).and_then(|()| budget.fits(out.len())).map_err(|error| frame.locate(error))?;
            let flow = self.node(frame, dot, node, out)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn node(&mut self, frame: &mut Frame, dot: &Value, node: &Node, out: &mut String) -> Eval<Flow> {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Action(pipeline) => {
                let value = self.pipeline(frame, dot, pipeline)?;
                if pipeline.variables.is_empty() {
                    format::print_action(&value, out, self.budget).map_err(|error| frame.locate(error))?;
                }
            }
            Node::If { condition, then, otherwise } => {
                let visible = frame.variables.len();
                let branch = if self.pipeline(frame, dot, condition)?.is_true() { then } else { otherwise };
                let flow = self.walk(frame, dot, branch, out)?;
                frame.variables.truncate(visible);
                return Ok(flow);
            }
            Node::With { value, then, otherwise } => {
                let visible = frame.variables.len();
                let value = self.pipeline(frame, dot, value)?;
                let (dot, branch) = if value.is_true() { (&value, then) } else { (dot, otherwise) };
                let flow = self.walk(frame, dot, branch, out)?;
                frame.variables.truncate(visible);
                return Ok(flow);
            }
            Node::Range { over, body, otherwise } => return self.range(frame, dot, (over, body, otherwise), out),
            Node::Call { template, argument, line } => {
                frame.line.set(*line);
                let data = match argument {
                    Some(pipeline) => self.pipeline(frame, dot, pipeline)?,
                    None => Value::Nil,
                };
                self.run(template, &data, out)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn range(
        &mut self,
        frame: &mut Frame,
        dot: &Value,
        (over, body, otherwise): (&Pipeline, &[Node], &[Node]),
        out: &mut String,
    ) -> Eval<Flow> {
        let visible = frame.variables.len();
        let value = self.commands(frame, dot, over)?;
        // A copy: the body may change the map that it ranges over.
        let items: Vec<(Value, Value)> = match &value {
            Value::Nil => Vec::new(),
            Value::List(list) => (0..).map(Value::Int).zip(list.items().iter().cloned()).collect(),
            Value::Map(map) => map.borrow().iter().map(|(key, item)| (Value::Str(key.clone()), item.clone())).collect(),
            Value::Int(count) => {
                let steps = u64::try_from(*count).unwrap_or_default();
                self.budget.spend(steps).map_err(|error| frame.locate(error))?;
                (0..*count).map(|number| (Value::Int(number), Value::Int(number))).collect()
            }
            other => return frame.fail(format!("range can't iterate over a {}", other.type_name())),
        };
        if items.is_empty() {
            let flow = self.walk(frame, dot, otherwise, out)?;
            frame.variables.truncate(visible);
            return Ok(flow);
        }
        for (key, item) in items {
            match &*over.variables {
                [key_name, item_name] => {
                    frame.bind(key_name, key, over.assigns);
                    frame.bind(item_name, item.clone(), over.assigns);
                }
                [item_name] => frame.bind(item_name, item.clone(), over.assigns),
                _ => {}
            }
            let flow = self.walk(frame, &item, body, out)?;
            frame.variables.truncate(visible);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    fn pipeline(&mut self, frame: &mut Frame, dot: &Value, pipeline: &Pipeline) -> Eval<Value> {
        let value = self.commands(frame, dot, pipeline)?;
        for name in &pipeline.variables {
            frame.bind(name, value.clone(), pipeline.assigns);
        }
        Ok(value)
    }

    fn commands(&mut self, frame: &mut Frame, dot: &Value, pipeline: &Pipeline) -> Eval<Value> {
        frame.line.set(pipeline.line);
        let budget = self.budget;
        let _level = budget.enter().map_err(|error| frame.locate(error))?;
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(frame, dot, command, last)?);
        }
        Ok(last.unwrap_or_default())
    }

    fn command(&mut self, frame: &mut Frame, dot: &Value, command: &Command, last: Option<Value>) -> Eval<Value> {
        self.budget.spend(1).map_err(|error| frame.locate(error))?;
        match &command.head {
            Expr::Function(function) => self.call(frame, dot, function, &command.arguments, last),
            Expr::Nil => frame.fail("nil is not a command"),
            head if command.arguments.is_empty() && last.is_none() => self.operand(frame, dot, head),
            // Only methods of built-in objects take arguments.
            head => {
                let mut arguments = Vec::with_capacity(command.arguments.len() + 1);
                for argument in &command.arguments {
                    arguments.push(self.operand(frame, dot, argument)?);
                }
                arguments.extend(last);
                match head {
                    Expr::Field(fields) => self.fields(frame, dot.clone(), fields, &arguments),
                    Expr::Variable(name, fields) if !fields.is_empty() => {
                        self.fields(frame, frame.variable(name), fields, &arguments)
                    }
                    Expr::Chain(inner, fields) => {
                        let receiver = self.operand(frame, dot, inner)?;
                        self.fields(frame, receiver, fields, &arguments)
                    }
                    _ => frame.fail("can't pass arguments to something that is not a function"),
                }
            }
        }
    }

    /// Evaluates an expression that is a command by itself or an argument.
    fn operand(&mut self, frame: &mut Frame, dot: &Value, expr: &Expr) -> Eval<Value> {
        match expr {
            Expr::Dot => Ok(dot.clone()),
            Expr::Nil => Ok(Value::Nil),
            Expr::Bool(value) => Ok(Value::Bool(*value)),
            Expr::Int(value) => Ok(Value::Int(*value)),
            Expr::Float(value) => Ok(Value::Float(*value)),
            Expr::Text(text) => Ok(Value::Str(text.clone())),
            Expr::Field(fields) => self.fields(frame, dot.clone(), fields, &[]),
            Expr::Variable(name, fields) => self.fields(frame, frame.variable(name), fields, &[]),
            Expr::Group(pipeline) => self.pipeline(frame, dot, pipeline),
            Expr::Chain(inner, fields) => {
                let receiver = self.operand(frame, dot, inner)?;
                self.fields(frame, receiver, fields, &[])
            }
            Expr::Function(function) => self.call(frame, dot, function, &[], None),
        }
    }

    /// Evaluates a chain of fields. A chain may start at nil, but a missing or null key inside it is an error.
    fn fields(&self, frame: &Frame, start: Value, fields: &[Arc<str>], arguments: &[Value]) -> Eval<Value> {
        if matches!(start, Value::Nil) {
            return Ok(Value::Nil);
        }
        let mut value = start;
        for (index, name) in fields.iter().enumerate() {
            let arguments = if index + 1 == fields.len() { arguments } else { &[] };
            value = match &value {
                Value::Map(_) if !arguments.is_empty() => {
                    return frame.fail(format!("{name} is not a method but has arguments"));
                }
                Value::Map(map) => map.get(name).unwrap_or_default(),
                Value::Builtin(builtin) => match self.builtins.member(*builtin, name, arguments) {
                    Some(member) => member,
                    None => return frame.fail(format!("can't evaluate field {name} with these arguments")),
                },
                Value::Nil => return frame.fail(format!("nil pointer evaluating interface {{}}.{name}")),
                other => return frame.fail(format!("can't evaluate field {name} in type {}", other.type_name())),
            };
        }
        Ok(value)
    }

    fn call(
        &mut self,
        frame: &mut Frame,
        dot: &Value,
        function: &Function,
        arguments: &[Expr],
        last: Option<Value>,
    ) -> Eval<Value> {
        let count = arguments.len() + usize::from(last.is_some());
        let fixed = function.fixed.len();
        if count < fixed || (count > fixed && function.rest.is_none()) {
            return frame.fail(format!("wrong number of args for {}: want {fixed} got {count}", function.name));
        }
        if let FunctionBody::Special(special @ (SpecialFunction::And | SpecialFunction::Or)) = function.body {
            return self.short_circuit(frame, dot, special, arguments, last);
        }
        let mut values = Vec::with_capacity(count);
        for (index, argument) in arguments.iter().enumerate() {
            let value = self.operand(frame, dot, argument)?;
            // As in Go, a missing key as a direct argument is not a map; from a pipeline it is an empty map.
            let direct = matches!(argument, Expr::Field(_) | Expr::Chain(..))
                || matches!(argument, Expr::Variable(_, fields) if !fields.is_empty());
            values.push(Self::checked(frame, function, index, value, direct)?);
        }
        if let Some(last) = last {
            values.push(Self::checked(frame, function, arguments.len(), last, false)?);
        }
        let line = frame.line.get();
        let result = match function.body {
            FunctionBody::Plain(run) => run(&values, self.budget),
            FunctionBody::Special(SpecialFunction::Include) => {
                return self.include(&values).inspect(|_| frame.line.set(line));
            }
            FunctionBody::Special(SpecialFunction::Tpl) => return self.tpl(frame, &values),
            FunctionBody::Special(SpecialFunction::FromYaml) => self.read_yaml(&values),
            FunctionBody::Special(SpecialFunction::And | SpecialFunction::Or) => Ok(Value::Nil),
        };
        let result = result.and_then(|value| match &value {
            Value::Str(text) => self.budget.fits(text.len()).map(|()| value),
            _ => Ok(value),
        });
        result.map_err(|error| {
            frame.locate(match error {
                EvalError::Failed(message) => EvalError::Failed(format!("error calling {}: {message}", function.name)),
                other => other,
            })
        })
    }

    fn checked(frame: &Frame, function: &Function, index: usize, value: Value, direct: bool) -> Eval<Value> {
        let wanted = function.fixed.get(index).copied().or(function.rest).unwrap_or(Param::Any);
        match (wanted, &value) {
            (Param::Any, _)
            | (Param::Str, Value::Str(_))
            | (Param::Int, Value::Int(_))
            | (Param::Bool, Value::Bool(_))
            | (Param::Map, Value::Map(_)) => Ok(value),
            (Param::Map, Value::Nil) if !direct => Ok(Value::Map(Map::default())),
            (wanted, value) => frame.fail(format!(
                "wrong type for value in {}: expected {}; got {}",
                function.name,
                wanted.type_name(),
                value.type_name()
            )),
        }
    }

    /// Evaluates `and` and `or` up to the deciding operand and returns it.
    fn short_circuit(
        &mut self,
        frame: &mut Frame,
        dot: &Value,
        which: SpecialFunction,
        arguments: &[Expr],
        last: Option<Value>,
    ) -> Eval<Value> {
        let mut value = Value::Nil;
        for argument in arguments {
            value = self.operand(frame, dot, argument)?;
            if value.is_true() == matches!(which, SpecialFunction::Or) {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    fn include(&mut self, values: &[Value]) -> Eval<Value> {
        let mut out = String::new();
        if let [Value::Str(name), data] = values {
            self.run(name, data, &mut out)?;
        }
        Ok(Value::text(out))
    }

    /// Returns a separate value for every call, also when the result is cached.
    fn read_yaml(&mut self, values: &[Value]) -> Result<Value, EvalError> {
        let [Value::Str(text)] = values else { return Ok(Value::Nil) };
        if let Some((_, value)) = self.last_yaml.as_ref().filter(|(known, _)| Arc::ptr_eq(known, text)) {
            return value.deep_copy(self.budget);
        }
        let value = functions::from_yaml(text, self.budget)?;
        self.last_yaml = Some((text.clone(), value.deep_copy(self.budget)?));
        Ok(value)
    }

    /// Parses and runs a text as a template. It can use the existing templates and define its own.
    fn tpl(&mut self, frame: &Frame, values: &[Value]) -> Eval<Value> {
        let [Value::Str(source), data] = values else { return Ok(Value::Nil) };
        let steps = u64::try_from(source.len()).unwrap_or(u64::MAX);
        self.budget.spend(steps).map_err(|error| frame.locate(error))?;
        let name: Arc<str> = format!("{} (tpl)", frame.template).into();
        let parsed = parser::parse(&name, source).map_err(|error| {
            frame.locate(EvalError::failed(format!("cannot parse template {source:?}: {}", error.kind)))
        })?;
        let mut overlay = Templates::new();
        add_templates(&mut overlay, parsed);
        self.overlays.push(overlay);
        let mut out = String::new();
        let result = self.run(&name, data, &mut out);
        self.overlays.pop();
        result.map(|()| Value::text(out.replace(format::NO_VALUE, "")))
    }
}

#[cfg(test)]
mod tests;
