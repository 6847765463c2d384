//! XML as a tree, as much of it as libvirt's documents have: elements with attributes and either text or elements.

use std::io;

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::xml::Xml;

/// No document of libvirt's is nested as deeply.
const DEEPEST: usize = 64;

/// The reader takes any bytes for a name; libvirt's, which is to read it next, takes none of these.
fn name(text: &str) -> Result<String, String> {
    let first = |c: char| c.is_alphabetic() || c == '_';
    let plain = |c: char| first(c) || c.is_numeric() || "-.:".contains(c);
    match text.starts_with(first) && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is no name")),
    }
}

/// Likewise of characters that XML has not, not even as references.
fn characters(text: String) -> Result<String, String> {
    let no = |c: char| matches!(c, '\0'..' ' | '\u{fffe}' | '\u{ffff}') && !matches!(c, '\t' | '\n' | '\r');
    match text.find(no) {
        Some(at) => Err(format!("{:?} is no text", &text[at..].chars().next().unwrap_or_default())),
        None => Ok(text),
    }
}

/// An element and everything in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    /// With its prefix, if it has one.
    pub name: String,
    /// Names and values, in order.
    pub attributes: Vec<(String, String)>,
    /// Empty where there is nothing but white space.
    pub text: String,
    /// In order.
    pub children: Vec<Element>,
}

impl Element {
    /// Reads a document; on failure says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader::from_str(text);
        let (mut open, mut root): (Vec<Self>, Option<Self>) = (Vec::new(), None);
        loop {
            let event = reader.read_event().map_err(|e| format!("at byte {}: {e}", reader.error_position()))?;
            let (text, closed) = match &event {
                Event::Start(start) if open.len() < DEEPEST => {
                    open.push(Self::start(start)?);
                    continue;
                }
                Event::Start(_) => return Err(format!("nested more than {DEEPEST} levels deep")),
                Event::Empty(start) => (None, Some(Self::start(start)?)),
                Event::End(_) => (None, open.pop().map(Self::finished)),
                Event::Text(text) => (Some(text.xml10_content().into_owned()), None),
                Event::CData(text) => (Some(text.xml10_content().into_owned()), None),
                Event::GeneralRef(name) => {
                    let character = name.resolve_char_ref().map_err(|e| e.to_string())?.map(String::from);
                    let known = character.or_else(|| resolve_predefined_entity(name).map(str::to_string));
                    (Some(known.ok_or_else(|| format!("the entity {} is unknown", &**name))?), None)
                }
                Event::DocType(_) => return Err("it has a document type, which libvirt's documents have not".into()),
                Event::Eof => break,
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => continue,
            };
            match (text, closed, open.last_mut()) {
                (Some(text), _, Some(parent)) => parent.text.push_str(&characters(text)?),
                (Some(text), _, None) if !text.trim().is_empty() => return Err("there is text outside of it".into()),
                (_, Some(child), Some(parent)) => parent.children.push(child),
                (_, Some(_), None) if root.is_some() => return Err("it has more than one root element".into()),
                (_, Some(child), None) => root = Some(child),
                _ => {}
            }
        }
        match open.pop() {
            Some(element) => Err(format!("it ends within <{}>", element.name)),
            None => root.ok_or_else(|| "it has no root element".into()),
        }
    }

    fn start(start: &BytesStart) -> Result<Self, String> {
        let mut element = Self { name: name(start.name().as_ref())?, ..Self::default() };
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|e| format!("<{}>: {e}", element.name))?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0);
            let value = value.map_err(|e| format!("<{}>: {e}", element.name))?.into_owned();
            element.attributes.push((name(attribute.key.as_ref())?, characters(value)?));
        }
        Ok(element)
    }

    fn finished(mut self) -> Self {
        if self.text.trim().is_empty() {
            self.text.clear();
        }
        self
    }

    /// The document's text.
    pub fn document(&self) -> String {
        let mut xml = Xml::new();
        // Writing into a Vec cannot fail.
        let _ = self.write(&mut xml);
        xml.finish()
    }

    fn write(&self, xml: &mut Xml) -> io::Result<()> {
        let attributes: Vec<_> = self.attributes.iter().map(|(name, value)| (&**name, &**value)).collect();
        match (self.text.is_empty(), self.children.is_empty()) {
            (true, true) => xml.empty(&self.name, &attributes),
            (false, true) => xml.text(&self.name, &attributes, &self.text),
            _ => xml.parent(&self.name, &attributes, |xml| self.children.iter().try_for_each(|child| child.write(xml))),
        }
    }

    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first child of this name.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }
}
