// SPDX-License-Identifier: Apache-2.0

//! The attribute `#[test]` of `enarx-harness`.

use proc_macro::TokenStream;
use quote::quote;
use syn::{Attribute, Expr, ExprLit, ItemFn, Lit, Meta, MetaNameValue};

/// Gives a function without arguments to the harness, as a test of its own name.
///
/// As in the standard library's attribute, `#[ignore]`, `#[ignore = "reason"]`, `#[should_panic]` and
/// `#[should_panic(expected = "part of the message")]` may be combined with it.
#[proc_macro_attribute]
pub fn test(_: TokenStream, item: TokenStream) -> TokenStream {
    match syn::parse::<ItemFn>(item).and_then(expand) {
        Ok(tokens) => tokens,
        Err(error) => error.into_compile_error().into(),
    }
}

fn expand(mut item: ItemFn) -> syn::Result<TokenStream> {
    let wrong = |tokens: &dyn quote::ToTokens, why| Err(syn::Error::new_spanned(tokens, why));
    if !item.sig.inputs.is_empty() || item.sig.asyncness.is_some() {
        return wrong(&item.sig, "a test has no arguments and is not async");
    }
    if !matches!(item.sig.output, syn::ReturnType::Default) {
        return wrong(&item.sig.output, "a test returns nothing: let it panic");
    }
    let mut ignored = quote!(::std::option::Option::None);
    let mut panics = quote!(::std::option::Option::None);
    let mut others = Vec::new();
    for attribute in std::mem::take(&mut item.attrs) {
        if attribute.path().is_ident("ignore") {
            let reason = text(&attribute, None)?.unwrap_or_else(|| "no reason given".into());
            ignored = quote!(::std::option::Option::Some(#reason));
        } else if attribute.path().is_ident("should_panic") {
            let expected = text(&attribute, Some("expected"))?.unwrap_or_default();
            panics = quote!(::std::option::Option::Some(#expected));
        } else {
            others.push(attribute);
        }
    }
    item.attrs = others;
    let name = &item.sig.ident;
    let text = name.to_string();
    Ok(quote! {
        #item

        ::enarx_harness::inventory::submit! {
            ::enarx_harness::Test {
                module: ::std::module_path!(),
                name: #text,
                run: #name,
                ignored: #ignored,
                panics: #panics,
            }
        }
    }
    .into())
}

/// The text of `#[attribute = "text"]`, or of `#[attribute(key = "text")]`.
fn text(attribute: &Attribute, key: Option<&str>) -> syn::Result<Option<String>> {
    let value = match (&attribute.meta, key) {
        (Meta::Path(_), _) => return Ok(None),
        (Meta::NameValue(pair), _) => pair.value.clone(),
        (Meta::List(_), Some(key)) => {
            let pair: MetaNameValue = attribute.parse_args()?;
            if !pair.path.is_ident(key) {
                return Err(syn::Error::new_spanned(&pair.path, format!("not `{key}`")));
            }
            pair.value
        }
        (Meta::List(list), None) => return Err(syn::Error::new_spanned(list, "write `= \"…\"`")),
    };
    match value {
        Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        }) => Ok(Some(text.value())),
        other => Err(syn::Error::new_spanned(other, "not a text")),
    }
}
