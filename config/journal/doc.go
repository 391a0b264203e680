// Package journal keeps what was decided: an append-only log of records on disk that survives
// kill -9 and power loss. Bytes in, bytes out: it does not look into a payload, which is one
// line of JSON by agreement and anything without a newline in fact.
//
//	a change:   Append -> write -> fdatasync -> acknowledged
//	a start:    Open -> lock, cut a torn tail, make durable what was read -> Replay
//	a long log: NeedsCompaction -> Compact(checkpoint) -> the old file becomes history
//
// # Promises
//
// What Append acknowledged is never lost, by kill -9 or power loss at any point, and comes back
// in the order it was acknowledged. What Replay shows is durable before it is shown, unless the
// disk refuses, which is warned about. An Append that answers with an error has changed nothing
// that can be seen; only if the disk also refused to take the bytes back, and power is lost before
// the next acknowledged record, may such a record come back, as the last one. A torn last record is ignored and told.
// Damage anywhere else is an error, never skipped: see [CorruptError].
//
// Not promised: surviving a disk that loses what it had confirmed, or damage to the very last
// record (it looks like a torn one, and is told like one).
//
// # Files
//
//	lock                              held by the one door that writes; pid and host inside
//	journal.log                       the live file: perhaps a checkpoint, then records
//	history-00000000000000000001.log  older files, named after their first record
//	journal.new                       being made; left by a crash, it means nothing
//
// Lines can be read with tail; each says its checksum (CRC-32C of the rest of the line), sequence
// number, kind, length of the payload, payload:
//
//	turnout-journal 1 base 000000000090 4ec8682a
//	53f84859 41 checkpoint 18 {"active":"green"}
//	62839a2e 42 record 14 {"swap":"web"}
//	9dd1425d 43 joined 15 {"note":"done"}
//
// The first line has the format, the size of header and checkpoint (durable before the file got
// its name, so never torn), and a checksum. A checkpoint stands for all records up to its
// number. A "record" was written when all before it was durable; a "joined" one was not, it
// shares a sync with the line before it. So after a bad line
//
//   - a good "record" proves that the bad one had been durable: that is damage, and an error;
//   - only "joined" ones, or nothing, or zeros: a batch whose pages reached the disk in part.
//     None of it was acknowledged: it is a torn tail, and cut off.
//
// # When a sync fails
//
// After a failed fsync the kernel may call the pages clean that it never wrote: a second fsync
// then succeeds and means nothing. So a sync is never tried again on the same file:
//
//  1. fdatasync fails. The batch is cut off the file, the file is marked suspect, and from now
//     on nothing in it counts but what earlier syncs confirmed.
//  2. The confirmed bytes are read back, each line checked, and written to journal.new together
//     with the lazy records (kept in memory until a sync confirms them).
//  3. journal.new is synced, renamed over journal.log, and the directory synced. Whoever
//     crashes before the rename finds the old file, and all that was acknowledged in it.
//  4. The batch is written and synced there. Only this acknowledges it.
//  5. If any of this fails, Append answers with the error, the file stays suspect, and the next
//     Append begins at 2. A sync that fails again in 4 is not tried a third time.
//
// A failed directory sync marks the file suspect as well: its name may not survive. A process
// that is killed between the failed sync and the cut leaves bytes which look well in the page cache
// and are not on the disk; so Open writes the last batch over itself before it syncs.
package journal
