// Package docs has no code: its script runs what the documents show.
package docs
