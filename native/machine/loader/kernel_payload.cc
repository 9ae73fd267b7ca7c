#include "machine/loader/kernel_payload.h"

#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <array>
#include <cstring>

#include "machine/format_text.h"

namespace node_mesh {
namespace {

using Bytes = std::span<const std::byte>;
using Unpack = bool (*)(Bytes packed, std::span<std::byte> into);

std::uint32_t u32_at(Bytes bytes, std::size_t offset) {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// The frame that `lz4 -l` writes: a magic number, then blocks of up to 8 MiB, each behind its
// packed size.
bool unpack_lz4(Bytes packed, std::span<std::byte> into) {
  constexpr std::size_t block_bytes_max = 8u << 20;
  std::size_t in = 4, out = 0;
  while (out < into.size()) {
    if (packed.size() - in < 4) return false;
    const std::size_t block = u32_at(packed, in);
    in += 4;
    if (block == 0 || block > packed.size() - in || block > block_bytes_max + (1u << 20)) {
      return false;
    }
    const std::size_t room = std::min(into.size() - out, block_bytes_max);
    const int made = LZ4_decompress_safe(reinterpret_cast<const char*>(packed.data() + in),
                                         reinterpret_cast<char*>(into.data() + out),
                                         static_cast<int>(block), static_cast<int>(room));
    if (made <= 0) return false;
    in += block;
    out += static_cast<std::size_t>(made);
  }
  return true;
}

// A stream, because kernels are packed without the content size in the frame's head.
bool unpack_zstd(Bytes packed, std::span<std::byte> into) {
  const std::unique_ptr<ZSTD_DStream, decltype(&ZSTD_freeDStream)> stream(ZSTD_createDStream(),
                                                                          &ZSTD_freeDStream);
  if (stream == nullptr) return false;
  ZSTD_DCtx_setParameter(stream.get(), ZSTD_d_windowLogMax, 27);
  ZSTD_inBuffer in{packed.data(), packed.size(), 0};
  ZSTD_outBuffer out{into.data(), into.size(), 0};
  for (;;) {
    const std::size_t before = in.pos + out.pos;
    const std::size_t left = ZSTD_decompressStream(stream.get(), &out, &in);
    if (ZSTD_isError(left) != 0) return false;
    if (left == 0) return out.pos == into.size();
    if (in.pos + out.pos == before) return false;  // no progress: cut off, or longer than it says
  }
}

bool unpack_gzip(Bytes packed, std::span<std::byte> into) {
  z_stream stream{};
  constexpr int gzip_window = 15 + 16;
  if (inflateInit2(&stream, gzip_window) != Z_OK) return false;
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = reinterpret_cast<Bytef*>(into.data());
  stream.avail_out = static_cast<uInt>(into.size());
  const int result = inflate(&stream, Z_FINISH);
  const bool whole = result == Z_STREAM_END && stream.total_out == into.size();
  inflateEnd(&stream);
  return whole;
}

bool unpack_xz(Bytes packed, std::span<std::byte> into) {
  constexpr std::uint64_t decoder_bytes_max = 256u << 20;
  std::uint64_t memory_limit = decoder_bytes_max;
  std::size_t in = 0, out = 0;
  const lzma_ret result = lzma_stream_buffer_decode(
      &memory_limit, 0, nullptr, reinterpret_cast<const std::uint8_t*>(packed.data()), &in,
      packed.size(), reinterpret_cast<std::uint8_t*>(into.data()), &out, into.size());
  return result == LZMA_OK && out == into.size();
}

struct Format {
  const char* name;
  std::array<std::uint8_t, 4> magic;
  std::size_t magic_bytes;
  Unpack unpack;  // null: known, but not supported
  // gzip's own trailer is the size; the others have it appended.
  bool size_is_trailer;
};

constexpr std::array<Format, 8> formats{{
    {"LZ4", {0x02, 0x21, 0x4c, 0x18}, 4, unpack_lz4, false},
    {"Zstandard", {0x28, 0xb5, 0x2f, 0xfd}, 4, unpack_zstd, false},
    {"gzip", {0x1f, 0x8b, 0x08, 0}, 3, unpack_gzip, true},
    {"xz", {0xfd, '7', 'z', 'X'}, 4, unpack_xz, false},
    {"bzip2", {'B', 'Z', 'h', 0}, 3, nullptr, false},
    {"LZMA", {0x5d, 0, 0, 0}, 3, nullptr, false},
    {"LZO", {0x89, 'L', 'Z', 'O'}, 4, nullptr, false},
    {"ELF", {0x7f, 'E', 'L', 'F'}, 4, nullptr, false},
}};

const Format* format_of(Bytes payload) {
  for (const Format& format : formats) {
    if (std::memcmp(payload.data(), format.magic.data(), format.magic_bytes) == 0) return &format;
  }
  return nullptr;
}

}  // namespace

std::expected<UnpackedKernel, std::string> unpack_kernel(std::span<const std::byte> payload) {
  constexpr std::size_t payload_bytes_min = 32;
  if (payload.size() < payload_bytes_min) return std::unexpected("its payload is cut off");
  const Format* format = format_of(payload);
  if (format == nullptr) return std::unexpected("its payload is packed in an unknown format");
  if (format->unpack == nullptr) {
    return std::unexpected(
        format_text("its payload is %s; LZ4, Zstandard, gzip and xz are "
                    "supported",
                    format->name));
  }
  const std::uint32_t size = u32_at(payload, payload.size() - 4);
  if (size == 0 || size > unpacked_kernel_bytes_max) {
    return std::unexpected(format_text("it claims to unpack to %u bytes", size));
  }
  UnpackedKernel kernel{std::make_unique_for_overwrite<std::byte[]>(size), size};
  const Bytes packed = format->size_is_trailer ? payload : payload.first(payload.size() - 4);
  if (!format->unpack(packed, {kernel.bytes.get(), kernel.size})) {
    return std::unexpected(format_text("its %s payload is damaged or cut off", format->name));
  }
  return kernel;
}

}  // namespace node_mesh
