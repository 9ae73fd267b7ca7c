// A log in a file: the container around the header and the chunks of log_schema.h. It is written
// from front to back only, so that a writer that dies leaves a shorter log, never a wrong one.
//
//   8 bytes  "NMLOG", u8 container version 1, "\r\n"
//   frames   u8 type, u24 number of the frame mod 2^24 (little-endian), u32 length of the body,
//            u32 CRC-32C of these 8 bytes; the body; u32 CRC-32C of the body
//   types    1 header (first, once), 2 image piece, 3 chunk, 4 end (last, once), in this order
//   image piece  32 bytes sha256 of the image, u8 flags (bit 0: data is zstd), u64 length of the
//                image, u64 offset of this piece, data of at most 1 MiB before compression
//   end      varint chunks, varint events, varint console bytes
//
// What a reader finds       | meaning              | what it does
// a head or body cut short  | the writer died      | replays the whole chunks, says what is missing
// zeros up to the end       | the host lost power  | the same
// no end frame              | the writer died      | the same
// any checksum wrong        | damaged              | refuses, naming the offset
// bytes after the end frame | damaged              | refuses, naming the offset
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "replay/file.h"
#include "replay/log_schema.h"
#include "replay/sha256.h"

namespace node_mesh {

inline constexpr std::size_t image_piece_bytes_max = 1 << 20;
inline constexpr std::uint64_t image_bytes_max = 4ull << 30;

struct LogTotals {
  std::uint64_t chunks = 0;
  std::uint64_t events = 0;
  std::uint64_t console_bytes = 0;
  friend bool operator==(const LogTotals&, const LogTotals&) = default;
};

class LogWriter {
 public:
  // Replaces a file only when that is a log or empty.
  static std::expected<LogWriter, std::string> create(const std::filesystem::path& path,
                                                      const MachineConfig& config);
  // After an error the file ends with the last frame that was written whole.
  std::expected<void, std::string> add_image(const Sha256& name, std::span<const std::byte> image);
  std::expected<void, std::string> add_chunk(std::span<const std::byte> chunk);
  std::expected<void, std::string> finish(const LogTotals& totals);
  // Bytes of the log without embedded images.
  std::uint64_t bytes() const { return bytes_ - image_bytes_; }

 private:
  explicit LogWriter(FileDescriptor file) : file_(std::move(file)) {}
  std::expected<void, std::string> add_frame(std::uint8_t type, std::span<const std::byte> body);
  FileDescriptor file_;
  std::uint32_t frame_number_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t image_bytes_ = 0;
};

class LogReader {
 public:
  static std::expected<LogReader, std::string> open(const std::filesystem::path& path);

  const MachineConfig& config() const { return config_; }
  bool has_image(const Sha256& name) const;
  // An embedded image, checked against its name.
  std::expected<Bytes, std::string> read_image(const Sha256& name) const;

  struct RawChunk {
    std::uint64_t offset = 0;
    Bytes bytes;
  };
  // The next whole chunk; nothing at the end (see `missing`). Errors name the offset.
  std::expected<std::optional<RawChunk>, std::string> next();

  // After next() gave nothing: empty when the log is complete, else one sentence on what is
  // missing.
  const std::string& missing() const { return missing_; }
  const std::optional<LogTotals>& totals() const { return totals_; }
  std::uint64_t bytes() const { return bytes_ - image_bytes_; }

 private:
  struct Frame {
    std::uint8_t type = 0;
    std::uint64_t offset = 0;
    Bytes body;
  };
  struct ImagePiece {
    std::uint64_t frame_offset = 0;
    std::uint64_t image_offset = 0;
  };
  struct Image {
    Sha256 name{};
    std::uint64_t bytes = 0;
    std::vector<ImagePiece> pieces;
  };
  explicit LogReader(FileDescriptor file) : file_(std::move(file)) {}
  std::expected<void, std::string> read_start();
  std::expected<void, std::string> note_image(const Frame& frame);
  std::expected<std::optional<Frame>, std::string> read_frame();
  std::expected<bool, std::string> only_zeros_follow(std::uint64_t offset) const;
  std::expected<void, std::string> read_end(const Frame& frame);

  FileDescriptor file_;
  std::uint64_t offset_ = 0;
  std::uint32_t frame_number_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t image_bytes_ = 0;
  MachineConfig config_;
  std::vector<Image> images_;
  std::optional<Frame> pending_;  // the first frame that is no image
  std::string missing_;
  std::optional<LogTotals> totals_;
  LogTotals seen_;
};

}  // namespace node_mesh
