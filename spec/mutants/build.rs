//! Makes one program of all mutants of the reference's decoders: each place where a mistake is
//! planted asks at run time whether its number is the one that is tried. So there is one build, not
//! one for each.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use quote::ToTokens;
use syn::visit_mut::{self, VisitMut};
use syn::{BinOp, Expr, Item, parse_quote};

/// The files of the reference, `lib` first, whose modules are the others.
const FILES: [&str; 4] = ["lib", "rans", "dictionary", "frame"];

/// Functions that only writers use, and that no vector of a decoder reaches.
const WRITERS: [&str; 12] = [
    "code_lengths",
    "codewords",
    "luts",
    "encode",
    "normalise",
    "of_counts",
    "with_limit",
    "split",
    "split_one",
    "merge_one",
    "put_chunks",
    "encode_as",
];

/// Constants that are numbers.
const NUMBERS: [&str; 6] = ["MOST", "WINDOW", "BLOCK", "START", "CHUNK", "LONGEST"];

fn main() {
    let source = PathBuf::from(env::var("CARGO_MANIFEST_DIR").unwrap()).join("../reference/src");
    let out = PathBuf::from(env::var("OUT_DIR").unwrap());
    let mut names = Vec::new();
    let mut text = String::new();
    for file in FILES {
        let path = source.join(file).with_extension("rs");
        println!("cargo::rerun-if-changed={}", path.display());
        let items = mutated(&path, file, &mut names);
        let items: String = items.iter().map(|item| item.to_token_stream().to_string() + "\n").collect();
        if file == "lib" { text += &items } else { writeln!(text, "pub mod {file} {{ {items} }}").unwrap() }
    }
    fs::write(out.join("reference.rs"), text).unwrap();
    fs::write(out.join("names.rs"), format!("&{names:#?}")).unwrap();
}

/// The items of a file, with mutants in them, whose names are appended.
fn mutated(path: &Path, file: &'static str, names: &mut Vec<String>) -> Vec<Item> {
    // What is the crate there is a module here.
    let text = fs::read_to_string(path).unwrap().replace("crate::", "crate::reference::");
    let mut items = syn::parse_file(&text).unwrap().items;
    items.retain(|item| !matches!(item, Item::Mod(_)));
    let lines = text.lines().map(str::to_owned).collect();
    let mut mutator = Mutator { file, lines, function: String::new(), names, seen: HashMap::new() };
    items.iter_mut().for_each(|item| mutator.visit_item_mut(item));
    items
}

struct Mutator<'a> {
    file: &'static str,
    lines: Vec<String>,
    function: String,
    names: &'a mut Vec<String>,
    seen: HashMap<String, usize>,
}

impl Mutator<'_> {
    /// Names a mutant by its line and what is changed there, and returns the question whether it is
    /// the one that is tried.
    fn on(&mut self, place: &dyn ToTokens, what: &str) -> Expr {
        let line = place.to_token_stream().into_iter().next().map_or(1, |token| token.span().start().line);
        let line = self.lines[line - 1].split("  //").next().unwrap().split(" // ").next().unwrap().trim();
        let mut name = format!("{}.{}: {line} | {what}", self.file, self.function);
        let seen = self.seen.entry(name.clone()).or_default();
        *seen += 1;
        if *seen > 1 {
            write!(name, " ({seen})").unwrap();
        }
        self.names.push(name);
        let number = self.names.len() as u32; // 0 is the original
        parse_quote!(crate::on(#number))
    }

    /// A number, or one more, or one less.
    fn number(&mut self, original: &Expr, text: &str, can_be_less: bool) -> Expr {
        let more = self.on(original, &format!("{text} + 1"));
        if !can_be_less {
            return parse_quote!((if #more { #original + 1 } else { #original }));
        }
        let less = self.on(original, &format!("{text} - 1"));
        parse_quote!((if #more { #original + 1 } else if #less { #original - 1 } else { #original }))
    }

    fn binary(&mut self, place: &Expr, binary: &syn::ExprBinary) -> Option<Expr> {
        let syn::ExprBinary { left, op, right, .. } = binary;
        let from = op.to_token_stream().to_string();
        if let BinOp::And(_) | BinOp::Or(_) = op {
            if matches!(**left, Expr::Let(_)) || matches!(**right, Expr::Let(_)) {
                return None;
            }
            let one = self.on(place, &format!("without the left of {from}"));
            let two = self.on(place, &format!("without the right of {from}"));
            return Some(match op {
                BinOp::And(_) => parse_quote!(((#left || #one) && (#right || #two))),
                _ => parse_quote!(((#left && !#one) || (#right && !#two))),
            });
        }
        let others: &[&str] = match from.as_str() {
            "<" => &["<=", ">="],
            "<=" => &["<", ">"],
            ">" => &[">=", "<"],
            ">=" => &[">", "<="],
            // An array has no order beside a slice.
            "==" if right.to_token_stream().to_string() == "MAGIC" => &["!="],
            "==" => &["!=", "<=", ">="],
            "!=" => &["=="],
            "+" => &["-"],
            "-" => &["+"],
            "*" => &["+"],
            "/" => &["*"],
            "%" => &["/"],
            "<<" => &[">>"],
            ">>" => &["<<"],
            "&" => &["|"],
            "|" | "^" => &["&"],
            "+=" => &["-="],
            "-=" => &["+="],
            "^=" => &["|="],
            "*=" => &["+="],
            _ => &[],
        };
        let is_assignment =
            from.len() > 1 && from.ends_with('=') && !["==", "!=", "<=", ">="].contains(&from.as_str());
        if is_assignment {
            let mut arms: Expr = parse_quote!(#left #op r);
            for other in others {
                let (on, other) =
                    (self.on(place, &format!("{from} -> {other}")), syn::parse_str::<BinOp>(other).unwrap());
                arms = parse_quote!(if #on { #left #other r } else { #arms });
            }
            let without = self.on(place, "without it");
            return Some(parse_quote!({ let r = #right; if #without {} else { #arms } }));
        }
        let mut arms: Expr = parse_quote!((l #op r));
        for other in others {
            let (on, other) =
                (self.on(place, &format!("{from} -> {other}")), syn::parse_str::<BinOp>(other).unwrap());
            arms = parse_quote!(if #on { l #other r } else { #arms });
        }
        Some(parse_quote!((match (#left, #right) { (l, r) => #arms })))
    }

    fn method(&mut self, place: &Expr, call: &syn::ExprMethodCall) -> Option<Expr> {
        let (receiver, args) = (&call.receiver, &call.args);
        let name = call.method.to_string();
        let without = format!("without {name}");
        Some(match name.as_str() {
            "zeros" | "padding" => {
                let on = self.on(place, &without);
                parse_quote!((if #on { Ok(()) } else { #place }))
            }
            "push" | "extend" => {
                let on = self.on(place, &without);
                parse_quote!((if #on {} else { #place }))
            }
            "contains" | "is_empty" => {
                let on = self.on(place, &format!("not {name}"));
                parse_quote!((#on ^ #place))
            }
            "min" => {
                let on = self.on(place, "min -> max");
                parse_quote!((match (#receiver, #args) { (l, r) => if #on { l.max(r) } else { l.min(r) } }))
            }
            "div_ceil" => {
                let on = self.on(place, "div_ceil -> /");
                parse_quote!((match (#receiver, #args) { (l, r) => if #on { l / r } else { l.div_ceil(r) } }))
            }
            "all" => {
                let on = self.on(place, "all -> any");
                parse_quote!((if #on { #receiver.any(#args) } else { #place }))
            }
            _ => return None,
        })
    }
}

impl VisitMut for Mutator<'_> {
    fn visit_item_fn_mut(&mut self, function: &mut syn::ItemFn) {
        self.function = function.sig.ident.to_string();
        // The cost of V-4.3, a function, is the writer's; that of V-2.2, a method, the reader's.
        if self.function != "cost" && !WRITERS.contains(&self.function.as_str()) {
            visit_mut::visit_block_mut(self, &mut function.block);
        }
    }

    fn visit_impl_item_fn_mut(&mut self, function: &mut syn::ImplItemFn) {
        self.function = function.sig.ident.to_string();
        if !WRITERS.contains(&self.function.as_str()) {
            visit_mut::visit_block_mut(self, &mut function.block);
        }
    }

    // Numbers there must be known when the program is built.
    fn visit_item_const_mut(&mut self, _: &mut syn::ItemConst) {}
    fn visit_type_mut(&mut self, _: &mut syn::Type) {}
    fn visit_pat_mut(&mut self, _: &mut syn::Pat) {}
    fn visit_expr_repeat_mut(&mut self, repeat: &mut syn::ExprRepeat) {
        self.visit_expr_mut(&mut repeat.expr);
    }

    fn visit_expr_mut(&mut self, expr: &mut Expr) {
        // How a violation is told is no mistake.
        if let Expr::Call(call) = expr
            && call.func.to_token_stream().to_string() == "rule"
        {
            self.visit_expr_mut(&mut call.args[1]);
            let on = self.on(&call.func, &format!("without {}", call.args[0].to_token_stream()));
            let holds = &call.args[1];
            call.args[1] = parse_quote!((#holds || #on));
            return;
        }
        // Before what is in it gets mutants, for its name.
        let original = expr.clone();
        visit_mut::visit_expr_mut(self, expr);
        let changed = match &*expr {
            Expr::Binary(binary) => self.binary(&original, binary),
            Expr::MethodCall(call) => self.method(expr, call),
            Expr::Assign(_) => {
                let (on, place) = (self.on(&original, "without it"), expr.clone());
                Some(parse_quote!(if #on {} else { #place }))
            }
            Expr::Unary(syn::ExprUnary { op: syn::UnOp::Not(_), expr: inner, .. }) => {
                let (on, inner, place) = (self.on(&original, "without !"), inner.clone(), expr.clone());
                Some(parse_quote!((if #on { #inner } else { #place })))
            }
            Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(lit), .. }) => {
                let (text, value) = (lit.to_string(), lit.base10_parse::<u128>().unwrap());
                Some(self.number(&original, &text, value > 0))
            }
            Expr::Path(path)
                if path.path.get_ident().is_some_and(|name| NUMBERS.iter().any(|n| name == n)) =>
            {
                let text = path.path.get_ident().unwrap().to_string();
                Some(self.number(&original, &text, true))
            }
            _ => None,
        };
        if let Some(changed) = changed {
            *expr = changed;
        }
    }

    fn visit_expr_range_mut(&mut self, range: &mut syn::ExprRange) {
        let end = range.end.as_deref().cloned();
        visit_mut::visit_expr_range_mut(self, range);
        // Numbers have mutants of their own.
        let Some(end) = end.filter(|end| !matches!(end, Expr::Lit(_))) else { return };
        if end.to_token_stream().to_string().chars().all(|c| c.is_ascii_uppercase()) {
            return;
        }
        let more = self.on(&end, "the end of the range + 1");
        let less = self.on(&end, "the end of the range - 1");
        let end = range.end.take().unwrap();
        range.end =
            Some(parse_quote!({ let e = #end; if #more { e + 1 } else if #less { e - 1 } else { e } }));
    }
}
