//! Elementwise functions of one tensor: `y[i] = f(x[i])`.

use super::io::Io;
use super::kernel::Kernel;
use super::split::for_each_piece;
use crate::dtype::Element;
use crate::error::OpError;

/// Output 0 is `f` of each element of input 0.
pub(crate) fn map<X: Element, Y: Element>(f: impl Fn(X) -> Y + Copy + Send + Sync + 'static) -> Kernel {
    map_with(|_| Ok(()), move |x, ()| f(x))
}

/// Output 0 is `f` of each element of input 0 and of parameters that `read` takes from the other inputs.
pub(crate) fn map_with<X: Element, Y: Element, P: Send + Sync>(
    read: impl Fn(&Io<'_, '_>) -> Result<P, OpError> + Send + Sync + 'static,
    f: impl Fn(X, &P) -> Y + Copy + Send + Sync + 'static,
) -> Kernel {
    Kernel::new(move |io| {
        let parameters = read(io)?;
        let (x, context) = (io.input::<X>(0)?, io.context);
        for_each_piece(context, io.output::<Y>(0)?, |start, piece| {
            for (y, &x) in piece.iter_mut().zip(&x[start..]) {
                *y = f(x, &parameters);
            }
        })
    })
}
