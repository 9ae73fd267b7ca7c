// The format of a checkpoint on disk: the one place on the C++ side that knows it. A checkpoint is
// a machine at a chunk boundary of its log: a replayer that has it goes on with chunk `chunk`.
//
// A directory holds the checkpoints of one machine. A file's name says what its content hashes to:
//   <sha256, 64 hex digits>.checkpoint   a manifest: all but memory, and where memory's pages are
//   <sha256, 64 hex digits>.pack         pages; shared by the checkpoints of the directory
//   .new-*                               being written; whoever finds one later may remove it
//
// Order of writing: packs (written, synced, renamed), the directory synced, the manifest (written,
// synced, renamed), the directory synced. Removing goes the other way: manifests before packs.
//
//   The writer died, or power failed,   what is there            what it means
//   while packs were written            .new-* or whole packs    ignored; removed by the next
//   writer before the manifest's rename        whole packs, .new-*      the same after it all of it
//   a checkpoint while old ones were removed         packs of no manifest     removed by the next
//   writer A file that is there and whose content does not hash to its name was damaged afterwards:
//   every reader refuses it, naming it, and an older checkpoint is as good as it ever was.
//
// Integers of fixed width are little-endian; `varint` is as in byte_codec.h. All of it is read as
// if an enemy had written it.
//
// PACK, of 1..4096 pages, at most pack_bytes_max:
//   8 bytes  "NMPACK", u8 version 1, "\n"
//   blocks   u32 length; a zstd frame of that many bytes: 64 pages of 4096 bytes, in the last block
//            those that are left
//
// MANIFEST: a CBOR map (cbor.h), at most manifest_bytes_max, with exactly these keys:
//   format          1
//   machine         machine_state_version of the program that wrote it
//   config          the header map of the log that it belongs to (log_schema.h)
//   chunk           0..2^48    the number of the chunk that comes next
//   steps           0..2^63    the position: that chunk's `first`
//   user_steps      0..2^63
//   guest_ns        0..2^63    virtual time, for people
//   console_bytes   0..2^63    written by the guest up to here
//   end             0..5       GuestEnd
//   report          text
//   cpu             bytes      machine_state.h
//   devices         list of {name: text, state: bytes}; the last is "clock"
//   inputs          bytes      varint source, varint seq of each known input source, newest first
//   memory_sum      the digest's sum over memory at the last digest (state_digest.h)
//   stale           bytes      pages that may have changed since that digest: varint gfn less
//                              (gfn before it + 1; the first: less 0), u64 its hash at that digest
//   disks           list of {name: text, base: 32 bytes, layers: list of 32 bytes}: immutable
//                   layers, oldest first; their files are the disks' own. Empty: no disks.
//   packs           bytes      44 each, at most 8192: sha256, u64 length of the file, u32 page
//   count runs            bytes      pages by rising gfn: varint gfn less (the end of the run
//   before it),
//                              varint count 1.., varint pack, varint index of the first in its
//                              pack. Pages in no run are zero. Several pages may lie at one place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace node_mesh {

inline constexpr unsigned checkpoint_format = 1;
inline constexpr std::uint64_t manifest_bytes_max = 256ull << 20;
inline constexpr std::string_view pack_magic("NMPACK\x01\n", 8);
inline constexpr std::uint32_t pack_pages_max = 4096;  // 16 MiB before compression
inline constexpr std::uint32_t block_pages = 64;
inline constexpr std::size_t pack_entry_bytes = 32 + 8 + 4;
inline constexpr std::size_t packs_max = 8192;                // 64 GiB need half of them
inline constexpr std::uint64_t pack_bytes_max = 18ull << 20;  // zstd grows no data by more
inline constexpr std::string_view manifest_suffix = ".checkpoint";
inline constexpr std::string_view pack_suffix = ".pack";
inline constexpr std::string_view unfinished_prefix = ".new-";

}  // namespace node_mesh
