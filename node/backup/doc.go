// Package backup writes backups into folders, and makes data folders of them.
//
// A backup has a file for each raft group and a manifest with their checksums,
// which is written last: a folder without it is incomplete. Each file begins with
// a head that says what it is of, and goes on with the storage's range stream.
package backup
