//! `#[move_out]` and `#[move_in]`.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{format_ident, quote};
use syn::{Error, FnArg, Ident, ItemFn, LitStr, ReturnType, Type};

use crate::result_of;

/// Which end of a move a function is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Out,
    In,
}

/// The constant that a function of a move is known by.
pub(crate) fn constant(function: &Ident) -> Ident {
    format_ident!("__NEURATH_MOVE_{}", function)
}

pub(crate) fn attribute(
    arguments: TokenStream,
    item: TokenStream,
    direction: Direction,
) -> TokenStream {
    let name = syn::parse_macro_input!(arguments as LitStr);
    let function = syn::parse_macro_input!(item as ItemFn);
    expand(&name, &function, direction)
        .unwrap_or_else(|error| {
            let error = error.into_compile_error();
            quote! { #function #error }
        })
        .into()
}

fn expand(name: &LitStr, function: &ItemFn, direction: Direction) -> syn::Result<Tokens> {
    let ident = &function.sig.ident;
    let shape = match direction {
        Direction::Out => {
            "a `move_out` is `fn(state: &mut State, tx: &mut Tx<'_>) -> Result<Value>`, or with \
             `moving: &mut Moving<'_>` behind"
        }
        Direction::In => {
            "a `move_in` is `fn(state: &mut State, tx: &mut Tx<'_>, value: Value) -> Result<()>`, or with \
             `moving: &Moving<'_>` behind"
        }
    };
    let error = || Error::new(ident.span(), shape);
    check_name(name)?;
    let types = function.sig.inputs.iter().map(|input| match input {
        FnArg::Typed(typed) => Ok(&*typed.ty),
        FnArg::Receiver(_) => Err(error()),
    });
    let types: Vec<&Type> = types.collect::<syn::Result<_>>()?;
    let Some(Type::Reference(state)) = types.first() else {
        return Err(error());
    };
    if state.mutability.is_none() {
        return Err(error());
    }
    let state = &*state.elem;
    let ReturnType::Type(_, output) = &function.sig.output else {
        return Err(error());
    };
    let given = result_of(output).ok_or_else(error)?;
    let (value, incoming, work) = match (direction, types.as_slice()) {
        (Direction::Out, [_, _]) => (
            given,
            0u32,
            quote! { move_out::<#state, #given>(call, |state, tx, _| #ident(state, tx)) },
        ),
        (Direction::Out, [_, _, _]) => (
            given,
            0,
            quote! { move_out::<#state, #given>(call, |state, tx, moving| #ident(state, tx, moving)) },
        ),
        (Direction::In, [_, _, value]) => (
            *value,
            1,
            quote! { move_in::<#state, #value>(call, |state, tx, value, _| #ident(state, tx, value)) },
        ),
        (Direction::In, [_, _, value, _]) => (
            *value,
            1,
            quote! {
                move_in::<#state, #value>(call, |state, tx, value, moving| {
                    #ident(state, tx, value, moving)
                })
            },
        ),
        _ => return Err(error()),
    };
    let constant = constant(ident);
    let visibility = &function.vis;
    Ok(quote! {
        #function

        #[doc(hidden)]
        #[allow(non_upper_case_globals, reason = "it is called after its function")]
        #visibility const #constant: ::neurath::abi::Move = {
            unsafe extern "C" fn moved(
                call: *mut ::neurath::abi::MoveCall,
            ) -> ::neurath::abi::Status {
                // SAFETY: the node's call, on a region whose state is of the type in this move.
                unsafe { ::neurath::entry::#work }
            }
            ::neurath::abi::Move {
                name: ::neurath::abi::Bytes::new(#name.as_bytes()),
                incoming: #incoming,
                reserved: 0,
                state: <#state as ::neurath::pmem::Pmem>::FINGERPRINT,
                value: <#value as ::neurath::pmem::Parcel>::PARCEL,
                call: moved,
            }
        };
    })
}

/// The name is one that an appup can write.
fn check_name(name: &LitStr) -> syn::Result<()> {
    let text = name.value();
    let mut characters = text.chars();
    let first = characters
        .next()
        .is_some_and(|first| first.is_ascii_lowercase());
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    match first && characters.all(known) && text.len() <= 64 {
        true => Ok(()),
        false => Err(Error::new(
            name.span(),
            "the name of a move has small letters, digits, `-` and `_`, and begins with a letter",
        )),
    }
}
