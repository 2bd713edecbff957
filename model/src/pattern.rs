//! Pattern dictionaries: which tensors make a unit.
//!
//! A dictionary maps regular expressions for module paths to lists of sub-modules. Every module whose whole path matches
//! is a unit, made of the `.weight` tensors of the listed sub-modules, in the listed order; with an empty list, of its
//! own `.weight`. The order fixes every byte of the unit.

use indexmap::IndexMap;
use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::units::is_embedding;

/// An ordered dictionary from patterns to sub-modules, as `dfloat11_config.pattern_dict` holds it.
///
/// ```
/// use df11_model::PatternDict;
///
/// let dict: PatternDict = serde_json::from_str(r#"{"model\\.layers\\.\\d+": ["mlp.up_proj"]}"#)?;
/// let patterns = dict.compile()?;
/// assert_eq!(patterns.iter().filter(|p| p.matches("model.layers.12")).count(), 1);
/// assert_eq!(patterns.iter().filter(|p| p.matches("model.layers.12.mlp")).count(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PatternDict(pub IndexMap<String, Vec<String>>);

/// One compiled entry of a dictionary.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    /// The sub-modules, in order.
    pub submodules: Vec<String>,
}

impl Pattern {
    /// Whether a whole module path matches.
    #[must_use]
    pub fn matches(&self, module: &str) -> bool {
        self.regex.is_match(module)
    }

    /// The names of the tensors that a matching module contributes, in order.
    #[must_use]
    pub fn tensors(&self, module: &str) -> Vec<String> {
        if self.submodules.is_empty() {
            return vec![format!("{module}.weight")];
        }
        self.submodules.iter().map(|submodule| format!("{module}.{submodule}.weight")).collect()
    }
}

impl PatternDict {
    /// Compiles the patterns, in order.
    ///
    /// # Errors
    ///
    /// A line that names the pattern, if one is not a regular expression that can be matched in linear time (look-around
    /// and back-references cannot).
    pub fn compile(&self) -> Result<Vec<Pattern>, String> {
        self.0
            .iter()
            .map(|(pattern, submodules)| {
                // Python's re.fullmatch: the whole path or nothing.
                let regex = Regex::new(pattern)
                    .and_then(|_| Regex::new(&format!("^(?:{pattern})$")))
                    .map_err(|error| {
                        let last = error.to_string().lines().last().unwrap_or_default().to_owned();
                        format!("the pattern {pattern:?} cannot be used: {last}")
                    })?;
                Ok(Pattern { regex, submodules: submodules.clone() })
            })
            .collect()
    }
}

/// A dictionary that belongs to a published model family.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Family {
    /// What the report calls it.
    pub(crate) name: String,
    /// Values of `model_type` in `config.json`.
    #[serde(default)]
    model_types: Vec<String>,
    /// Values of `_class_name` or `architectures` in `config.json`.
    #[serde(default)]
    classes: Vec<String>,
    pub(crate) pattern_dict: PatternDict,
}

/// The dictionaries of published DF11 models; the file says where they come from.
const FAMILIES: &str = include_str!("families.json");

#[derive(Deserialize)]
struct Families {
    families: Vec<Family>,
}

/// What `config.json` says about input and output embedding being one parameter, if it says anything.
pub(crate) fn states_tied(config: &Value) -> Option<bool> {
    let places = [Some(config), config.get("text_config")];
    places.into_iter().flatten().find_map(|place| place.get("tie_word_embeddings")?.as_bool())
}

/// The families that `config.json` points to, to be confirmed against the tensors.
pub(crate) fn candidates(config: &Value, tied: bool) -> Result<Vec<Family>, String> {
    let families: Families = serde_json::from_str(FAMILIES)
        .map_err(|error| format!("the built-in dictionaries are damaged: {error}"))?;
    let model_type = config.get("model_type").and_then(Value::as_str);
    let class = config.get("_class_name").and_then(Value::as_str);
    let architectures = config.get("architectures").and_then(Value::as_array);
    let classes: Vec<&str> =
        architectures.into_iter().flatten().filter_map(Value::as_str).chain(class).collect();
    Ok(families
        .families
        .into_iter()
        .filter(|family| {
            family.classes.iter().any(|known| classes.contains(&known.as_str()))
                || family.model_types.iter().any(|known| model_type == Some(known))
        })
        .map(|mut family| {
            if tied {
                family.pattern_dict.0.retain(|pattern, _| !is_embedding(pattern));
            }
            family
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_dictionary_compiles_and_is_reached() {
        let families: Families = serde_json::from_str(FAMILIES).unwrap();
        assert_eq!(families.families.len(), 12);
        for family in &families.families {
            family.pattern_dict.compile().unwrap();
            assert!(!family.model_types.is_empty() || !family.classes.is_empty(), "{}", family.name);
        }
    }

    #[test]
    fn tied_embeddings_stay_out() {
        let config = serde_json::json!({"model_type": "llama", "text_config": {"tie_word_embeddings": true}});
        assert_eq!(states_tied(&config), Some(true));
        let keys = |tied| candidates(&config, tied).unwrap()[0].pattern_dict.0.keys().count();
        assert_eq!((keys(false), keys(true)), (3, 1));
    }

    #[test]
    fn unescaped_dots_match_as_published_loaders_match_them() {
        let dict = PatternDict(IndexMap::from([("model.layers.\\d+".to_owned(), vec![])]));
        let pattern = &dict.compile().unwrap()[0];
        assert!(pattern.matches("model.layers.3") && pattern.matches("modelXlayersX3"));
        assert!(!pattern.matches("model.layers.3.mlp") && !pattern.matches("a.model.layers.3"));
        let error = |pattern: &str| {
            PatternDict(IndexMap::from([(pattern.to_owned(), vec![])])).compile().unwrap_err()
        };
        assert!(error("(?!x)y").contains("look-around"));
        assert!(error("a)|(b").contains("cannot be used"));
    }
}
