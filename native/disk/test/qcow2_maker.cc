#include "qcow2_maker.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace node_mesh::test {
namespace {

void put(Bytes& bytes, std::size_t offset, std::uint64_t value, std::size_t count) {
  if (bytes.size() < offset + count) bytes.resize(offset + count);
  for (std::size_t i = 0; i < count; ++i)
    bytes[offset + i] = static_cast<std::byte>(value >> (8 * (count - 1 - i)));
}

void put_text(Bytes& bytes, std::size_t offset, const std::string& text) {
  if (bytes.size() < offset + text.size()) bytes.resize(offset + text.size());
  std::memcpy(bytes.data() + offset, text.data(), text.size());
}

Bytes deflated(std::span<const std::byte> from) {
  Bytes into(from.size() + 4096);
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY);
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(from.data()));
  stream.avail_in = static_cast<uInt>(from.size());
  stream.next_out = reinterpret_cast<Bytef*>(into.data());
  stream.avail_out = static_cast<uInt>(into.size());
  deflate(&stream, Z_FINISH);
  into.resize(stream.total_out);
  deflateEnd(&stream);
  return into;
}

Bytes zstd_packed(std::span<const std::byte> from) {
  Bytes into(ZSTD_compressBound(from.size()));
  into.resize(ZSTD_compress(into.data(), into.size(), from.data(), from.size(), 3));
  return into;
}

class Maker {
 public:
  Maker(const Qcow2Plan& plan, const Bytes& content)
      : plan_(plan), content_(content), cluster_(std::size_t{1} << plan.cluster_bits) {}

  Bytes make() {
    const std::size_t clusters = (content_.size() + cluster_ - 1) / cluster_;
    const std::size_t per_table = cluster_ / 8;
    const std::size_t tables = (clusters + per_table - 1) / per_table;
    const std::size_t l1_clusters = (tables * 8 + cluster_ - 1) / cluster_;
    file_.resize(cluster_ * (1 + l1_clusters));
    write_header(tables);
    for (std::size_t table = 0; table < tables; ++table) {
      const std::size_t first = table * per_table;
      const std::size_t last = std::min(clusters, first + per_table);
      bool used = false;
      for (std::size_t i = first; i < last; ++i)
        used = used || plan_.kind_of(i) != ClusterKind::unallocated;
      if (!used) continue;
      const std::size_t at = append_cluster();
      put(file_, cluster_ + table * 8, at | 1ull << 63, 8);
      for (std::size_t i = first; i < last; ++i)
        put(file_, at + (i - first) * 8, entry(i), 8);
    }
    return std::move(file_);
  }

 private:
  void write_header(std::size_t l1_entries) {
    put(file_, 0, 0x514649fb, 4);
    put(file_, 4, plan_.version, 4);
    put(file_, 20, plan_.cluster_bits, 4);
    put(file_, 24, content_.size(), 8);
    put(file_, 32, plan_.encryption, 4);
    put(file_, 36, l1_entries, 4);
    put(file_, 40, cluster_, 8);
    std::size_t at = 72;
    if (plan_.version == 3) {
      put(file_, 72, plan_.incompatible | (plan_.zstd ? 8u : 0u), 8);
      put(file_, 96, 4, 4);
      put(file_, 100, 112, 4);
      put(file_, 104, plan_.zstd ? 1 : 0, 1);
      at = 112;
    }
    if (!plan_.feature_name.empty()) {
      put(file_, at, 0x6803f857, 4);
      put(file_, at + 4, 48, 4);
      put(file_, at + 9, static_cast<std::uint64_t>(std::countr_zero(plan_.incompatible)), 1);
      put_text(file_, at + 10, plan_.feature_name);
      at += 56;
    }
    if (plan_.backing_file.empty()) return;
    put(file_, at, 0xe2792aca, 4);
    put(file_, at + 4, plan_.backing_format.size(), 4);
    put_text(file_, at + 8, plan_.backing_format);
    put(file_, 8, at + 32, 8);
    put(file_, 16, plan_.backing_file.size(), 4);
    put_text(file_, at + 32, plan_.backing_file);
  }

  std::size_t append_cluster() {
    const std::size_t at = (file_.size() + cluster_ - 1) / cluster_ * cluster_;
    file_.resize(at + cluster_);
    return at;
  }

  std::uint64_t entry(std::size_t index) {
    const ClusterKind kind = plan_.kind_of(index);
    if (kind == ClusterKind::unallocated) return 0;
    if (kind == ClusterKind::zero) return 1;
    Bytes bytes(cluster_);
    const std::size_t from = index * cluster_;
    const std::size_t count = std::min(cluster_, content_.size() - from);
    std::copy_n(content_.begin() + static_cast<std::ptrdiff_t>(from), count, bytes.begin());
    if (kind == ClusterKind::data) {
      const std::size_t at = append_cluster();
      std::copy(bytes.begin(), bytes.end(), file_.begin() + static_cast<std::ptrdiff_t>(at));
      return at | 1ull << 63;
    }
    const Bytes packed = plan_.zstd ? zstd_packed(bytes) : deflated(bytes);
    const std::size_t at = file_.size();
    file_.insert(file_.end(), packed.begin(), packed.end());
    const std::uint64_t sectors = (at % 512 + packed.size() - 1) / 512;
    return 1ull << 62 | sectors << (62 - (plan_.cluster_bits - 8)) | at;
  }

  const Qcow2Plan& plan_;
  const Bytes& content_;
  const std::size_t cluster_;
  Bytes file_;
};

}  // namespace

Bytes make_qcow2(const Qcow2Plan& plan, const Bytes& content) {
  return Maker(plan, content).make();
}

}  // namespace node_mesh::test
