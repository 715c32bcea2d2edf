// Package forward hands packets to a service over HTTP: each one is a POST whose
// body is the content, signed after Standard Webhooks, and the answer's status
// says what becomes of the packet. It is a client.Handler; leases, their renewal,
// order, concurrency and the drain are the client's.
//
// What an answer means:
//
//   - 2xx: done; the body, cut to Config.MaxResult, is the packet's result;
//   - 408, 425, 429, 5xx, and no answer at all: tried again after the group's
//     back-off, or after the answer's Retry-After where that is longer;
//   - anything else, redirects among it, which are not followed: dead, with the
//     status and the first bytes of the body as the error.
package forward
