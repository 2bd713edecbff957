//! `config.json`: adds `dfloat11_config` without changing another byte, removes it again, and reads
//! shapes.

use serde_json::{Value, json};

use crate::names::digest;
use crate::partition::pattern::PatternDict;

/// The key that published loaders look for.
pub(crate) const KEY: &str = "dfloat11_config";

/// The layout version, in the numbering of the package that defines the layout.
pub(crate) const LAYOUT_VERSION: &str = "0.5.0";

/// Parses a config. Python writes and reads infinities and NaN, which JSON does not have. They are
/// parsed as null here; the text itself stays unchanged.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let error = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(error) => format!("is not valid JSON: {error}"),
    };
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(quote) = rest.find('"') {
        plain += &without_numbers_beyond_json(&rest[..quote]);
        let string = &rest[quote..];
        // Skip to the closing quote, passing over escaped characters.
        let mut escaped = false;
        let end = string.char_indices().skip(1).find(|&(_, c)| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        });
        let end = end.map_or(string.len(), |(at, _)| at + 1);
        plain += &string[..end];
        rest = &string[end..];
    }
    plain += &without_numbers_beyond_json(rest);
    serde_json::from_str(&plain).map_err(|_| error)
}

fn without_numbers_beyond_json(text: &str) -> String {
    text.replace("-Infinity", "null").replace("Infinity", "null").replace("NaN", "null")
}

/// Checks that a compressed model's config describes the known layout version (D-10.3).
pub(crate) fn check(config: &Value) -> Result<(), String> {
    let Some(ours) = config.get(KEY) else { return Ok(()) };
    let known = [
        ("threads_per_block", json!([df11::hazmat::layout::WINDOWS_PER_BLOCK])),
        ("bytes_per_thread", json!(df11::hazmat::layout::WINDOW_BYTES)),
    ];
    for (key, expected) in known {
        if let Some(found) = ours.get(key)
            && *found != expected
        {
            return Err(format!("{KEY}.{key} is {found}, but the layout has {expected}"));
        }
    }
    Ok(())
}

/// Returns the value of `dfloat11_config`.
pub(crate) fn dfloat11_config(dict: &PatternDict) -> Value {
    json!({
        "version": LAYOUT_VERSION,
        "threads_per_block": [df11::hazmat::layout::WINDOWS_PER_BLOCK],
        "bytes_per_thread": df11::hazmat::layout::WINDOW_BYTES,
        "pattern_dict": dict,
    })
}

/// Inserts `dfloat11_config` as the last entry of a JSON object, in the object's own style. Returns
/// the text, the offset of the insertion and its length in bytes.
pub(crate) fn insert(text: &str, dict: &PatternDict) -> Result<(String, usize, usize), String> {
    let value = parse(text)?;
    let object = value.as_object().ok_or("is not a JSON object")?;
    // Valid JSON that is an object ends with its closing brace.
    let brace = text.rfind('}').ok_or("is not a JSON object")?;
    let offset = text[..brace].trim_end().len();
    let pretty = text[..brace].contains('\n');
    let config = dfloat11_config(dict);
    let rendered =
        if pretty { serde_json::to_string_pretty(&config) } else { serde_json::to_string(&config) }
            .map_err(|error| error.to_string())?;
    let comma = if object.is_empty() { "" } else { "," };
    let inserted = if pretty {
        let indent: String =
            text[..offset].lines().next_back().unwrap_or("").chars().take_while(|c| *c == ' ').collect();
        let indent = if indent.is_empty() { "  " } else { &indent };
        format!("{comma}\n{indent}\"{KEY}\": {}", rendered.replace('\n', &format!("\n{indent}")))
    } else {
        format!("{comma}\"{KEY}\":{rendered}")
    };
    Ok((format!("{}{inserted}{}", &text[..offset], &text[offset..]), offset, inserted.len()))
}

/// Removes what [`insert`] inserted, if the rest is still the original with this SHA-256.
pub(crate) fn take_out(text: &str, offset: usize, length: usize, sha256: &str) -> Option<String> {
    let end = offset.checked_add(length)?;
    let original = format!("{}{}", text.get(..offset)?, text.get(end..)?);
    (digest(original.as_bytes()) == sha256).then_some(original)
}

/// Writes the config anew, without `dfloat11_config`.
pub(crate) fn without(config: &Value) -> Result<String, String> {
    let mut config = config.clone();
    if let Some(object) = config.as_object_mut() {
        object.shift_remove(KEY);
    }
    serde_json::to_string_pretty(&config).map(|text| text + "\n").map_err(|error| error.to_string())
}

/// Returns the pattern dictionary of a compressed model's config.
pub(crate) fn pattern_dict(config: &Value) -> Option<PatternDict> {
    serde_json::from_value(config.get(KEY)?.get("pattern_dict")?.clone()).ok()
}

/// Derives the shape of a language model's weight, `[out_features, in_features]`, from the sizes in
/// its config.
///
/// Knows the attention and feed-forward matrices and the embeddings of the Llama, Mistral, Qwen2,
/// Qwen3, Phi-3 and Gemma 3 families. The caller must check the shape against the number of
/// elements.
pub(crate) fn shape(config: &Value, tensor: &str) -> Option<[usize; 2]> {
    const FAMILIES: [&str; 8] =
        ["llama", "mistral", "qwen2", "qwen3", "phi3", "gemma3", "gemma3_text", "qwen2_5_vl"];
    let model_type = config.get("model_type").and_then(Value::as_str)?;
    if !FAMILIES.contains(&model_type) {
        return None;
    }
    // Multimodal models keep the language model's sizes in an object of their own.
    let sizes = config.get("text_config").unwrap_or(config);
    let get = |key: &str| sizes.get(key).and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
    let hidden = get("hidden_size")?;
    let heads = get("num_attention_heads").filter(|&heads| heads > 0);
    let head = get("head_dim").or_else(|| Some(hidden / heads?));
    let queries = || heads?.checked_mul(head?);
    let keys = || get("num_key_value_heads").or(heads)?.checked_mul(head?);
    let module = tensor.strip_suffix(".weight")?;
    if module.contains("visual") || module.contains("vision") {
        return None;
    }
    Some(match module.rsplit('.').next()? {
        "q_proj" => [queries()?, hidden],
        "k_proj" | "v_proj" => [keys()?, hidden],
        "qkv_proj" => [queries()?.checked_add(keys()?.checked_mul(2)?)?, hidden],
        "o_proj" => [hidden, queries()?],
        "gate_proj" | "up_proj" => [get("intermediate_size")?, hidden],
        "gate_up_proj" => [get("intermediate_size")?.checked_mul(2)?, hidden],
        "down_proj" => [hidden, get("intermediate_size")?],
        "lm_head" | "embed_tokens" => {
            [get("vocab_size").or_else(|| config.get("vocab_size")?.as_u64()?.try_into().ok())?, hidden]
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use indexmap::IndexMap;

    fn dict() -> PatternDict {
        PatternDict(IndexMap::from([("h\\.\\d+".to_owned(), vec!["mlp".to_owned()])]))
    }

    #[test]
    fn insertion_keeps_every_other_byte_and_is_reversible() {
        for text in [
            r#"{"a": [0.0, Infinity, -Infinity], "NaN \" {": NaN}"#,
            "{}",
            "{\n}\n",
            "{\"a\": 1}",
            "{\n    \"a\": {\n        \"b\": [1.0e5]\n    }\n}\n",
            "  {\"x\":\"}\"}  ",
        ] {
            let (with, offset, length) = insert(text, &dict()).unwrap();
            let sha256 = digest(text.as_bytes());
            let parsed: Value = parse(&with).unwrap();
            assert_eq!(pattern_dict(&parsed), Some(dict()), "{with}");
            assert_eq!(take_out(&with, offset, length, &sha256).as_deref(), Some(text));
            assert_eq!(take_out(&format!("{with} "), offset, length, &sha256), None);
            let mut original: Value = parse(text).unwrap();
            original.as_object_mut().unwrap().insert(KEY.to_owned(), dfloat11_config(&dict()));
            assert_eq!(parsed, original);
        }
        assert!(insert("[]", &dict()).is_err());
        assert!(insert("{", &dict()).is_err());
    }

    #[test]
    fn shapes_of_a_grouped_query_model() {
        let config = json!({"model_type": "qwen3", "hidden_size": 1024, "num_attention_heads": 16, "head_dim": 128,
            "num_key_value_heads": 8, "intermediate_size": 3072, "vocab_size": 151_936});
        let at = |name| shape(&config, name);
        assert_eq!(at("model.layers.0.self_attn.q_proj.weight"), Some([2048, 1024]));
        assert_eq!(at("model.layers.0.self_attn.k_proj.weight"), Some([1024, 1024]));
        assert_eq!(at("model.layers.0.self_attn.o_proj.weight"), Some([1024, 2048]));
        assert_eq!(at("model.layers.0.mlp.down_proj.weight"), Some([1024, 3072]));
        assert_eq!(at("lm_head.weight"), Some([151_936, 1024]));
        assert_eq!(at("model.norm.weight"), None);
        assert_eq!(shape(&json!({"model_type": "bert", "hidden_size": 4}), "a.q_proj.weight"), None);
    }
}
