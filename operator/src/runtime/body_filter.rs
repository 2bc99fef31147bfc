//! A layer of a client that sees the data of responses as it arrives.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use axum::http::{Method, Request, Response, Uri};
use http_body::{Body, Frame};
use tower::{Layer, Service};

/// Decides which responses are filtered. Clones serve the same client.
pub trait FilterResponses: Clone {
    /// The filter of one response.
    type Filter: BodyFilter;

    /// The filter for the response to a request, which is about to be sent; it is dropped unless the response is a
    /// success.
    fn filter(&self, method: &Method, uri: &Uri) -> Option<Self::Filter>;
}

/// Sees the data of one response.
pub trait BodyFilter: Send + 'static {
    /// The data to pass on instead of the next chunk; may be empty.
    fn data(&mut self, chunk: Bytes) -> Bytes;

    /// The response has ended without an error.
    fn end(&mut self) {}
}

/// The layer for the responses that `F` chooses.
#[derive(Clone, Debug)]
pub struct BodyFilterLayer<F>(pub F);

impl<S, F: Clone> Layer<S> for BodyFilterLayer<F> {
    type Service = FilteredResponses<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        FilteredResponses { inner, filters: self.0.clone() }
    }
}

/// The service of [`BodyFilterLayer`].
#[derive(Debug)]
pub struct FilteredResponses<S, F> {
    inner: S,
    filters: F,
}

impl<S, F, R, B> Service<Request<R>> for FilteredResponses<S, F>
where
    S: Service<Request<R>, Response = Response<B>>,
    S::Future: Send + 'static,
    F: FilterResponses,
{
    type Response = Response<FilteredBody<B, F::Filter>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let filter = self.filters.filter(request.method(), request.uri());
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            let filter = filter.filter(|_| response.status().is_success());
            Ok(response.map(|inner| FilteredBody { inner, filter }))
        })
    }
}

/// The body of a response, with its data filtered.
#[derive(Debug)]
pub struct FilteredBody<B, F> {
    inner: B,
    filter: Option<F>,
}

impl<B: Body<Data = Bytes> + Unpin, F: BodyFilter + Unpin> Body for FilteredBody<B, F> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
            let Some(filter) = self.filter.as_mut() else { return Poll::Ready(frame) };
            let frame = match frame {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    filter.end();
                    return Poll::Ready(None);
                }
            };
            match frame.into_data() {
                Ok(chunk) => {
                    let output = filter.data(chunk);
                    if !output.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(output))));
                    }
                }
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
    }
}
