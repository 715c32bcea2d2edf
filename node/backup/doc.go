// Package backup writes backups into folders, and makes data folders of them.
//
// A backup has a file for each raft group and a manifest with their checksums,
// which is written last: a folder without it is incomplete. Each file begins with
// a head that says what it is of, and goes on with the storage's range stream.
//
// What Restore does with a backup, Recover does with the data folders of the nodes
// that are left of a cluster: of each group it takes the copy that has most, brings
// it to the end of its log, and moves it far beyond any index that was ever given
// out. The cluster stays the same one, with one node; the others are removed.
package backup
