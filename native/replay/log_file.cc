#include "replay/log_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>

#include "machine/check.h"
#include "replay/crc32c.h"

namespace node_mesh {
namespace {

enum FrameType : std::uint8_t { header_frame = 1, image_frame = 2, chunk_frame = 3, end_frame = 4 };

constexpr std::string_view magic("NMLOG\x01\r\n", 8);
constexpr std::size_t head_bytes = 12;
constexpr std::size_t crc_bytes = 4;
constexpr std::size_t image_head_bytes = 32 + 1 + 8 + 8;
constexpr std::uint32_t frame_number_mask = 0xffffff;
constexpr std::size_t end_bytes_max = 30;

std::size_t body_bytes_max(std::uint8_t type) {
  switch (type) {
    case header_frame:
      return header_bytes_max;
    case image_frame:
      return image_head_bytes + image_piece_bytes_max;
    case chunk_frame:
      return chunk_bytes_max;
    case end_frame:
      return end_bytes_max;
    default:
      return 0;
  }
}

std::string at(std::uint64_t offset, const std::string& what) {
  return what + " at offset " + std::to_string(offset);
}

}  // namespace

std::expected<LogWriter, std::string> LogWriter::create(const std::filesystem::path& path,
                                                        const MachineConfig& config) {
  auto file = open_file(path, O_RDWR | O_CREAT, 0644);
  if (!file) return std::unexpected(file.error());
  struct stat status {};
  if (::fstat(file->get(), &status) != 0) return std::unexpected(error_text(errno));
  if (!S_ISREG(status.st_mode)) return std::unexpected("it is not a regular file");
  std::array<std::byte, 5> start{};
  const auto got = read_at(file->get(), 0, start);
  if (!got) return std::unexpected(error_text(got.error()));
  if (*got != 0 && !std::ranges::equal(std::span(start).first(*got),
                                       as_byte_span(magic.substr(0, start.size())))) {
    return std::unexpected("it exists and is no log");
  }
  if (::ftruncate(file->get(), 0) != 0) return std::unexpected(error_text(errno));
  LogWriter writer(std::move(*file));
  const auto wrote = write_all(writer.file_.get(), as_byte_span(magic));
  writer.bytes_ = magic.size();
  auto header = wrote
                    ? writer.add_frame(header_frame, encode_header(config))
                    : std::expected<void, std::string>(std::unexpected(error_text(wrote.error())));
  if (!header) {
    ::unlink(path.c_str());
    return std::unexpected(header.error());
  }
  return writer;
}

std::expected<void, std::string> LogWriter::add_frame(std::uint8_t type,
                                                      std::span<const std::byte> body) {
  NM_CHECK(body.size() <= body_bytes_max(type));
  ByteWriter frame;
  const std::uint32_t number = frame_number_++ & frame_number_mask;
  frame.u32(type | number << 8);
  frame.u32(static_cast<std::uint32_t>(body.size()));
  frame.u32(crc32c(frame.view()));
  frame.bytes(body);
  frame.u32(crc32c(body));
  if (auto wrote = write_all(file_.get(), frame.view()); !wrote) {
    // What was written of it is taken back; if that fails too, a reader takes it for a cut.
    if (::ftruncate(file_.get(), static_cast<off_t>(bytes_)) != 0) errno = wrote.error();
    return std::unexpected(error_text(wrote.error()));
  }
  bytes_ += frame.size();
  return {};
}

std::expected<void, std::string> LogWriter::add_image(const Sha256& name,
                                                      std::span<const std::byte> image) {
  const std::uint64_t before = bytes_;
  for (std::size_t offset = 0; offset < image.size() || offset == 0;
       offset += image_piece_bytes_max) {
    const auto piece =
        image.subspan(offset, std::min(image.size() - offset, image_piece_bytes_max));
    Bytes packed(ZSTD_compressBound(piece.size()));
    const std::size_t size =
        ZSTD_compress(packed.data(), packed.size(), piece.data(), piece.size(), 1);
    const bool smaller = !ZSTD_isError(size) && size < piece.size();
    packed.resize(smaller ? size : 0);
    ByteWriter body;
    body.bytes(std::as_bytes(std::span(name)));
    body.u8(smaller ? 1 : 0);
    body.u64(image.size());
    body.u64(offset);
    body.bytes(smaller ? std::span<const std::byte>(packed) : piece);
    if (auto added = add_frame(image_frame, body.view()); !added) return added;
  }
  image_bytes_ += bytes_ - before;
  return {};
}

std::expected<void, std::string> LogWriter::add_chunk(std::span<const std::byte> chunk) {
  return add_frame(chunk_frame, chunk);
}

std::expected<void, std::string> LogWriter::finish(const LogTotals& totals) {
  ByteWriter body;
  body.varint(totals.chunks);
  body.varint(totals.events);
  body.varint(totals.console_bytes);
  return add_frame(end_frame, body.view());
}

std::expected<LogReader, std::string> LogReader::open(const std::filesystem::path& path) {
  auto file = open_file(path, O_RDONLY);
  if (!file) return std::unexpected(file.error());
  struct stat status {};
  if (::fstat(file->get(), &status) != 0) return std::unexpected(error_text(errno));
  if (!S_ISREG(status.st_mode)) return std::unexpected("it is not a regular file");
  LogReader reader(std::move(*file));
  reader.bytes_ = static_cast<std::uint64_t>(status.st_size);
  if (auto started = reader.read_start(); !started) return std::unexpected(started.error());
  return reader;
}

std::expected<void, std::string> LogReader::read_start() {
  std::array<std::byte, magic.size()> start{};
  const auto got = read_at(file_.get(), 0, start);
  if (!got) return std::unexpected(error_text(got.error()));
  const auto expected = as_byte_span(magic);
  const auto have = std::span(start).first(*got);
  if (*got == start.size() && std::ranges::equal(have.first(5), expected.first(5)) &&
      have[5] != expected[5]) {
    return std::unexpected("it is a log of container version " +
                           std::to_string(static_cast<unsigned>(have[5])) +
                           ", this program reads version 1");
  }
  if (*got == 0) return std::unexpected("it is empty");
  if (!std::ranges::equal(have, expected.first(*got))) {
    return std::unexpected("it is no log (its first bytes are wrong)");
  }
  offset_ = magic.size();
  if (*got < magic.size()) return std::unexpected("it was cut before its header; nothing is left");
  auto header = read_frame();
  if (!header) return std::unexpected(header.error());
  if (!*header) return std::unexpected("it was cut before its header ended; nothing is left");
  if ((*header)->type != header_frame) return std::unexpected("its first frame is no header");
  auto config = decode_header((*header)->body);
  if (!config) return std::unexpected(config.error());
  config_ = std::move(*config);
  for (;;) {
    auto frame = read_frame();
    if (!frame) return std::unexpected(frame.error());
    if (!*frame) return {};
    if ((*frame)->type != image_frame) {
      pending_ = std::move(**frame);
      return {};
    }
    if (auto noted = note_image(**frame); !noted) return noted;
  }
}

std::expected<void, std::string> LogReader::note_image(const Frame& frame) {
  ByteReader in(frame.body);
  const auto name_bytes = in.bytes("image.sha256", 32);
  in.u8("image.flags", 1);
  const std::uint64_t length = in.u64("image.length");
  const std::uint64_t offset = in.u64("image.offset");
  if (length > image_bytes_max) in.fail("image.length", "too long");
  if (in.failed()) return std::unexpected(at(frame.offset, in.error()));
  Sha256 name{};
  std::ranges::transform(name_bytes, name.begin(),
                         [](std::byte byte) { return static_cast<std::uint8_t>(byte); });
  if (images_.empty() || images_.back().name != name) images_.push_back({name, length, {}});
  Image& image = images_.back();
  if (image.bytes != length || offset != image.pieces.size() * image_piece_bytes_max ||
      (offset >= length && offset != 0)) {
    return std::unexpected(at(frame.offset, "an image piece out of place"));
  }
  image.pieces.push_back({frame.offset, offset});
  image_bytes_ += head_bytes + frame.body.size() + crc_bytes;
  return {};
}

bool LogReader::has_image(const Sha256& name) const {
  return std::ranges::any_of(images_, [&](const Image& image) { return image.name == name; });
}

std::expected<Bytes, std::string> LogReader::read_image(const Sha256& name) const {
  const auto image =
      std::ranges::find_if(images_, [&](const Image& one) { return one.name == name; });
  if (image == images_.end()) return std::unexpected("the log does not hold it");
  Bytes bytes;
  for (const ImagePiece& piece : image->pieces) {
    // The frame's checksums were verified when it was first read.
    std::array<std::byte, head_bytes> head{};
    if (!read_at(file_.get(), piece.frame_offset, head))
      return std::unexpected("it cannot be read");
    ByteReader length{std::span<const std::byte>(head).subspan(4)};
    Bytes body(std::min<std::size_t>(length.u32("length"), body_bytes_max(image_frame)));
    if (!read_at(file_.get(), piece.frame_offset + head_bytes, body) ||
        body.size() < image_head_bytes) {
      return std::unexpected("it cannot be read");
    }
    const bool packed = (body[32] & std::byte{1}) != std::byte{0};
    const auto data = std::span<const std::byte>(body).subspan(image_head_bytes);
    const auto want = static_cast<std::size_t>(
        std::min<std::uint64_t>(image->bytes - piece.image_offset, image_piece_bytes_max));
    const std::size_t start = bytes.size();
    bytes.resize(start + want);
    std::size_t got = data.size();
    if (packed) {
      got = ZSTD_decompress(bytes.data() + start, want, data.data(), data.size());
    } else if (got == want) {
      std::ranges::copy(data, bytes.begin() + static_cast<std::ptrdiff_t>(start));
    }
    if (got != want) return std::unexpected("its pieces have wrong lengths");
  }
  if (bytes.size() != image->bytes || sha256_of(bytes) != name) {
    return std::unexpected("its content does not match its name");
  }
  return bytes;
}

std::expected<bool, std::string> LogReader::only_zeros_follow(std::uint64_t offset) const {
  std::array<std::byte, 65536> block;
  for (;;) {
    const auto got = read_at(file_.get(), offset, block);
    if (!got) return std::unexpected(error_text(got.error()));
    const auto part = std::span(block).first(*got);
    if (std::ranges::any_of(part, [](std::byte byte) { return byte != std::byte{0}; })) {
      return false;
    }
    if (*got < block.size()) return true;
    offset += *got;
  }
}

std::expected<std::optional<LogReader::Frame>, std::string> LogReader::read_frame() {
  const auto cut = [&](const std::string& what) {
    missing_ = "it was cut " + at(offset_, what) + "; what follows is missing";
    return std::optional<Frame>();
  };
  std::array<std::byte, head_bytes> head{};
  const auto got = read_at(file_.get(), offset_, head);
  if (!got) return std::unexpected(at(offset_, error_text(got.error())));
  if (*got == 0) return cut("between two frames");
  if (head[0] == std::byte{0}) {
    auto zeros = only_zeros_follow(offset_);
    if (!zeros) return std::unexpected(zeros.error());
    if (*zeros) return cut("(zeros follow)");
  }
  if (*got < head.size()) return cut("inside the head of a frame");
  ByteReader in(head);
  const std::uint32_t type_and_number = in.u32("frame.type");
  const std::uint32_t length = in.u32("frame.length");
  if (in.u32("frame.crc") != crc32c(std::span(head).first(8))) {
    return std::unexpected(at(offset_, "a frame's head is damaged"));
  }
  Frame frame{static_cast<std::uint8_t>(type_and_number & 0xff), offset_, {}};
  if (type_and_number >> 8 != (frame_number_ & frame_number_mask)) {
    return std::unexpected(at(offset_, "a frame is out of order"));
  }
  if (length > body_bytes_max(frame.type)) {
    return std::unexpected(at(offset_, "a frame of unknown type or length"));
  }
  Bytes body(length + crc_bytes);
  const auto got_body = read_at(file_.get(), offset_ + head_bytes, body);
  if (!got_body) return std::unexpected(at(offset_, error_text(got_body.error())));
  if (*got_body < body.size()) return cut("inside a frame");
  const auto content = std::span<const std::byte>(body).first(length);
  if (ByteReader(std::span<const std::byte>(body).last(crc_bytes)).u32("crc") != crc32c(content)) {
    return std::unexpected(at(offset_, "a frame is damaged"));
  }
  ++frame_number_;
  offset_ += head_bytes + body.size();
  body.resize(length);
  frame.body = std::move(body);
  return frame;
}

std::expected<std::optional<LogReader::RawChunk>, std::string> LogReader::next() {
  std::optional<Frame> frame = std::exchange(pending_, std::nullopt);
  if (!frame) {
    if (totals_ || !missing_.empty()) return std::optional<RawChunk>();
    auto read = read_frame();
    if (!read) return std::unexpected(read.error());
    if (!*read) return std::optional<RawChunk>();
    frame = std::move(*read);
  }
  if (frame->type == chunk_frame) {
    ++seen_.chunks;
    return RawChunk{frame->offset, std::move(frame->body)};
  }
  if (frame->type != end_frame) {
    return std::unexpected(at(frame->offset, "a frame out of place"));
  }
  if (auto ended = read_end(*frame); !ended) return std::unexpected(ended.error());
  return std::optional<RawChunk>();
}

std::expected<void, std::string> LogReader::read_end(const Frame& frame) {
  ByteReader in(frame.body);
  LogTotals totals;
  totals.chunks = in.varint("end.chunks", 0, chunk_number_max);
  totals.events = in.varint("end.events", 0, counter_max);
  totals.console_bytes = in.varint("end.console_bytes", 0, counter_max);
  if (in.left() != 0) in.fail("end", "bytes follow");
  if (in.failed()) return std::unexpected(at(frame.offset, in.error()));
  if (totals.chunks != seen_.chunks) {
    return std::unexpected(at(frame.offset, "the number of chunks is not what the end says"));
  }
  std::array<std::byte, 1> more{};
  const auto got = read_at(file_.get(), offset_, more);
  if (!got) return std::unexpected(at(offset_, error_text(got.error())));
  if (*got != 0) return std::unexpected(at(offset_, "bytes follow the end"));
  totals_ = totals;
  return {};
}

}  // namespace node_mesh
