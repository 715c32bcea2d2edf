// Package docs has no code: its scripts run what the documents show.
package docs
