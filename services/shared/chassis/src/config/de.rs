//! Reads a [`Node`] into any `Config`, and knows for each complaint which key it is about.
//!
//! Our own deserializer rather than the library's, because it must read untyped text as the wanted type, refuse unknown
//! keys in every struct, and say where the offending value was written.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};

use super::node::{Node, Origin, Value, parse_array};

/// What is wrong, with which key, written where.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) reason: String,
    pub(super) origin: Option<Origin>,
    /// Innermost first.
    path: Vec<String>,
}

pub(super) fn read<C: DeserializeOwned>(root: Node) -> Result<C, Fault> {
    C::deserialize(Reader {
        node: root,
        is_root: true,
    })
}

impl Fault {
    /// The dotted path; the whole configuration when the complaint is about its root.
    pub(super) fn key(&self) -> String {
        let mut key = String::new();
        for part in self.path.iter().rev() {
            if !key.is_empty() && !part.starts_with('[') {
                key.push('.');
            }
            key.push_str(part);
        }
        if key.is_empty() {
            "configuration".to_owned()
        } else {
            key
        }
    }

    fn under(mut self, part: impl Into<String>, origin: Option<&Origin>) -> Self {
        self.path.push(part.into());
        self.origin = self.origin.or_else(|| origin.cloned());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key(), self.reason)
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self {
            reason: reason.to_string(),
            origin: None,
            path: Vec::new(),
        }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let mut fault = Self::custom(format!("unknown key{}", suggestion(field, expected)));
        fault.path.push(field.to_owned());
        fault
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format!("{variant:?} is not one of {}", expected.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        let mut fault = Self::custom("required, but not set; it has no default");
        fault.path.push(field.to_owned());
        fault
    }
}

/// The nearest known key, when one is near enough to be a slip of the hand; else all of them.
fn suggestion(key: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|candidate| (strsim::osa_distance(key, candidate), *candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(key.len()) / 3);
    match nearest {
        Some((_, candidate)) => format!("; did you mean {candidate}?"),
        None if known.is_empty() => "; this section has no keys".to_owned(),
        None => format!("; known keys are {}", known.join(", ")),
    }
}

struct Reader {
    node: Node,
    is_root: bool,
}

impl Reader {
    fn of(node: Node) -> Self {
        Self { node, is_root: false }
    }

    fn unexpected<T>(self, visitor: &dyn serde::de::Expected) -> Result<T, Fault> {
        let unexpected = match &self.node.value {
            Value::Table(_) => Unexpected::Map,
            Value::Array(_) => Unexpected::Seq,
            Value::Text(text) | Value::Untyped(text) => Unexpected::Str(text),
            Value::Integer(number) => {
                i64::try_from(*number).map_or(Unexpected::Other("number"), Unexpected::Signed)
            }
            Value::Float(number) => Unexpected::Float(*number),
            Value::Boolean(flag) => Unexpected::Bool(*flag),
        };
        Err(Fault::invalid_type(unexpected, visitor))
    }

    fn integer<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let number = match &self.node.value {
            Value::Integer(number) => Some(*number),
            // Underscores as in TOML: 1_000.
            Value::Untyped(text) => text.replace('_', "").parse().ok(),
            _ => None,
        };
        match number {
            Some(number) => visit_integer(number, visitor),
            None => self.unexpected(&visitor),
        }
    }

    fn float<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let number = match &self.node.value {
            Value::Float(number) => Some(*number),
            Value::Integer(number) => Some(*number as f64),
            Value::Untyped(text) => text.parse().ok(),
            _ => None,
        };
        match number {
            Some(number) => visitor.visit_f64(number),
            None => self.unexpected(&visitor),
        }
    }

    fn text<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Text(text) | Value::Untyped(text) => visitor.visit_str(text),
            // Durations are the usual case: `wait = 5` lacks its unit, and the visitor's own words say so.
            _ => self.unexpected(&visitor),
        }
    }
}

fn visit_integer<'de, V: Visitor<'de>>(number: i128, visitor: V) -> Result<V::Value, Fault> {
    if let Ok(number) = i64::try_from(number) {
        visitor.visit_i64(number)
    } else if let Ok(number) = u64::try_from(number) {
        visitor.visit_u64(number)
    } else {
        visitor.visit_i128(number)
    }
}

macro_rules! forward {
    ($($method:ident => $to:ident),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.$to(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Reader {
    type Error = Fault;

    forward! {
        deserialize_i8 => integer, deserialize_i16 => integer, deserialize_i32 => integer, deserialize_i64 => integer,
        deserialize_u8 => integer, deserialize_u16 => integer, deserialize_u32 => integer, deserialize_u64 => integer,
        deserialize_i128 => integer, deserialize_u128 => integer,
        deserialize_f32 => float, deserialize_f64 => float,
        deserialize_char => text, deserialize_str => text, deserialize_string => text, deserialize_identifier => text,
        deserialize_bytes => deserialize_any, deserialize_byte_buf => deserialize_any, deserialize_unit => deserialize_any,
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.value {
            Value::Table(_) => self.deserialize_map(visitor),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Text(text) => visitor.visit_string(text),
            Value::Integer(number) => visit_integer(number, visitor),
            Value::Float(number) => visitor.visit_f64(number),
            Value::Boolean(flag) => visitor.visit_bool(flag),
            Value::Untyped(text) => {
                if let Ok(flag) = text.parse() {
                    visitor.visit_bool(flag)
                } else if let Ok(number) = text.parse::<i128>() {
                    visit_integer(number, visitor)
                } else if let Ok(number) = text.parse() {
                    visitor.visit_f64(number)
                } else {
                    visitor.visit_string(text)
                }
            }
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let flag = match &self.node.value {
            Value::Boolean(flag) => Some(*flag),
            Value::Untyped(text) => match text.as_str() {
                "true" | "1" | "yes" | "on" => Some(true),
                "false" | "0" | "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        };
        match flag {
            Some(flag) => visitor.visit_bool(flag),
            None => self.unexpected(&visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let nodes = match self.node.value {
            Value::Array(nodes) => nodes,
            Value::Untyped(text) => {
                let origin = self.node.origin.as_ref();
                let item = |text: &str| Node {
                    value: Value::Untyped(text.trim().to_owned()),
                    origin: origin.cloned(),
                };
                match text.trim() {
                    "" => Vec::new(),
                    array if array.starts_with('[') => parse_array(array, origin)
                        .ok_or_else(|| Fault::custom("not a TOML array; write a,b,c or [\"a\", \"b\"]"))?,
                    list => list.split(',').map(item).collect(),
                }
            }
            _ => return self.unexpected(&visitor),
        };
        visitor.visit_seq(Items {
            nodes: nodes.into_iter(),
            index: 0,
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.value {
            Value::Table(table) => visitor.visit_map(Entries {
                entries: table.into_iter(),
                value: None,
            }),
            _ => self.unexpected(&visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if let Value::Table(table) = &mut self.node.value {
            if self.is_root {
                table.retain(|key, node| {
                    let foreign =
                        matches!(&node.origin, Some(Origin::Environment(name)) if !name.contains("__"));
                    !foreign || fields.contains(&key.as_str())
                });
            }
            if let Some((key, node)) = table.iter().find(|(key, _)| !fields.contains(&key.as_str())) {
                let mut fault = Fault::unknown_field(key, fields);
                fault.origin.clone_from(&node.origin);
                return Err(fault);
            }
        }
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.node.value {
            Value::Text(name) | Value::Untyped(name) => visitor.visit_enum(Choice { name, content: None }),
            Value::Table(mut table) if table.len() == 1 => {
                let (name, content) = table.pop_first().expect("just counted, this is a bug");
                visitor.visit_enum(Choice {
                    name,
                    content: Some(content),
                })
            }
            _ => self.unexpected(&visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }
}

struct Entries {
    entries: std::collections::btree_map::IntoIter<String, Node>,
    value: Option<(String, Node)>,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.value = self.entries.next();
        match &self.value {
            Some((key, node)) => seed
                .deserialize(Reader::of(Node {
                    value: Value::Untyped(key.clone()),
                    origin: node.origin.clone(),
                }))
                .map(Some)
                .map_err(|fault| Fault {
                    origin: fault.origin.or_else(|| node.origin.clone()),
                    ..fault
                }),
            None => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let (key, node) = self.value.take().expect("a value follows its key, this is a bug");
        let origin = node.origin.clone();
        seed.deserialize(Reader::of(node))
            .map_err(|fault| fault.under(key, origin.as_ref()))
    }
}

struct Items {
    nodes: std::vec::IntoIter<Node>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(node) = self.nodes.next() else {
            return Ok(None);
        };
        let (index, origin) = (self.index, node.origin.clone());
        self.index += 1;
        seed.deserialize(Reader::of(node))
            .map(Some)
            .map_err(|fault| fault.under(format!("[{index}]"), origin.as_ref()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.nodes.len())
    }
}

/// One variant of an enum: a bare name, or `{ name = content }`.
struct Choice {
    name: String,
    content: Option<Node>,
}

impl<'de> EnumAccess<'de> for Choice {
    type Error = Fault;
    type Variant = Content;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Content), Fault> {
        let variant = seed.deserialize(StrDeserializer::<Fault>::new(&self.name))?;
        Ok((
            variant,
            Content {
                name: self.name,
                node: self.content,
            },
        ))
    }
}

struct Content {
    name: String,
    node: Option<Node>,
}

impl Content {
    fn reader(self) -> Result<Reader, Fault> {
        let name = self.name;
        self.node
            .map(Reader::of)
            .ok_or_else(|| Fault::custom(format!("{name} needs a value: {{ {name} = … }}")))
    }
}

impl<'de> VariantAccess<'de> for Content {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.node {
            None => Ok(()),
            Some(_) => Err(Fault::custom(format!("{} takes no value", self.name))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self.reader()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.reader()?.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.reader()?.deserialize_struct("", fields, visitor)
    }
}
