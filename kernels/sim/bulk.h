// Bulk copies: their place holds NaN until they land, one after the other in any order.
#pragma once

// Begins a copy of so many bytes to a place that nobody else's is on its way to, and that holds nothing which ordinary
// code wrote without a fence; the caller fills in from where.
static inline SimBulk* sim_begin(
    const char* what, void* to, unsigned bytes, unsigned long long* at, const char* file, unsigned line) {
    SimAsync* all = sim_async();
    SimBarrier* barrier = sim_barrier(at, what, file, line);
    sim_need_fence(barrier, what, file, line);
    sim_in_shared(to, bytes, file, line);
    if (all->bulks == SIM_BULKS) SIM_FAIL("more bulk copies in flight than the simulator holds");
    const unsigned at_byte = shared_address(to) - SIM_SHARED_BASE;
    for (unsigned i = 0; i < all->bulks; i++)
        if (at_byte < all->bulk[i].to + all->bulk[i].bytes && all->bulk[i].to < at_byte + bytes)
            SIM_FAIL(sim_text("%s: another one is on its way to the same bytes", what));
    if (memcmp(to, all->visible + at_byte, bytes) != 0)
        SIM_FAIL(sim_text("%s: its place was written by ordinary means and not fenced", what));
    SimBulk* bulk = &all->bulk[all->bulks];
    *bulk = {};
    bulk->barrier = barrier, bulk->to = at_byte, bulk->bytes = bytes;
    return bulk;
}

// Copies what the tensor has of a box, and zeros, to `to`, which is byte `at` of the device's shared memory.
static inline void sim_copy_box(unsigned char* to, unsigned at, const SimMap& map, const int (&first)[4]) {
    const unsigned rows = static_cast<unsigned>(map.box[1] * map.box[2] * map.box[3]), row = 2 * map.box[0];
    for (unsigned r = 0; r < rows; r++) {
        const uint64_t inside[3] = {r % map.box[1], r / map.box[1] % map.box[2], r / map.box[1] / map.box[2]};
        bool there = true;
        long long offset = 0;
        for (unsigned i = 0; i < 3; i++) {
            const long long index = first[i + 1] + static_cast<long long>(inside[i]);
            there = there && index >= 0 && index < static_cast<long long>(map.size[i + 1]);
            offset += index * static_cast<long long>(map.stride[i]);
        }
        for (unsigned byte = 0; byte < row; byte += 2) {
            const long long column = first[0] + static_cast<long long>(byte / 2);
            const unsigned place = at + r * row + byte, swizzled = place ^ (place >> 7 & 7) << 4;
            uint16_t element = 0;
            if (there && column >= 0 && column < static_cast<long long>(map.size[0]))
                memcpy(&element, reinterpret_cast<const unsigned char*>(map.address + offset + 2 * column), 2);
            memcpy(to + (swizzled - at), &element, 2);
        }
    }
}

// Copies what has not landed, as memory is now.
static inline void sim_copy_bulk(const SimBulk& bulk, unsigned char* to) {
    if (bulk.from) memcpy(to, bulk.from, bulk.bytes);
    else sim_copy_box(to, bulk.to + SIM_SHARED_BASE, bulk.map, bulk.first);
}

// Sends the copy on its way. It is read here, too, so that a bad address is this thread's.
static inline void sim_send(SimBulk* bulk, void* to) {
    sim_copy_bulk(*bulk, static_cast<unsigned char*>(to));
    memset(to, 0xff, bulk->bytes);
    sim_async()->bulks++;
}

// Lands the `i`-th copy; null, or what is wrong with it.
static inline const char* sim_land(SimAsync* all, unsigned i) {
    const SimBulk bulk = all->bulk[i];
    unsigned char* to = all->shared + bulk.to;
    for (unsigned i = 0; i < bulk.bytes; i++)
        if (to[i] != 0xff)
            return sim_text("byte %u of shared memory was written while a bulk copy is on its way", bulk.to + i);
    sim_copy_bulk(bulk, to);
    memcpy(all->visible + bulk.to, to, bulk.bytes);
    for (unsigned j = i + 1; j < all->bulks; j++) all->bulk[j - 1] = all->bulk[j];
    all->bulks--;
    bulk.barrier->bytes -= bulk.bytes;
    if (sim_advance(bulk.barrier)) return nullptr;
    return sim_text("bulk copies bring the barrier at byte %u %lld bytes more than were announced", bulk.barrier->at,
                    -bulk.barrier->bytes);
}

static inline void bulk_copy(void* to, const void* from, unsigned bytes, unsigned long long* at, SIM_SITE) {
    if (bytes == 0 || bytes % 16 != 0) SIM_FAIL("bulk_copy: not a multiple of 16 bytes");
    sim_aligned(to, 16, file, line);
    sim_aligned(from, 16, file, line);
    SimBulk* bulk = sim_begin("bulk_copy", to, bytes, at, file, line);
    bulk->from = static_cast<const unsigned char*>(from);
    sim_send(bulk, to);
}

// --- by maps

// What is wrong with a map, by the driver's rules and those of copies of four dimensions; null for nothing.
static inline const char* sim_map_fault(const SimMap& map) {
    if (map.mark != SIM_MAP_MARK) return "there is no map that was encoded";
    if (map.rank != 4) return sim_text("the map is of %llu dimensions", static_cast<unsigned long long>(map.rank));
    if (map.address % 16 != 0) return "the map's tensor is not aligned to 16 bytes";
    for (uint64_t stride : map.stride)
        if (stride == 0 || stride % 16 != 0 || stride >= 1ull << 40)
            return "the map has a stride that is not a multiple of 16 bytes below 2^40";
    for (unsigned i = 0; i < 4; i++) {
        if (map.size[i] == 0 || map.size[i] > 1ull << 32) return "the map has a dimension that is not 1 to 2^32";
        if (map.box[i] == 0 || map.box[i] > 256) return "the map has a box that is not 1 to 256 wide";
    }
    if (2 * map.box[0] != 128) return "the rows of the map's box are not those of its swizzle, of 128 bytes";
    return nullptr;
}

template <class Map>
static inline SimMap sim_read_map(const Map* map, const char* what, const char* file, unsigned line) {
    static_assert(sizeof(Map) == sizeof(SimMap), "the bits of a map");
    if (reinterpret_cast<uintptr_t>(map) % 64 != 0)
        SIM_FAIL(sim_text("%s: a map lies at a multiple of 64 bytes", what));
    SimMap read;
    memcpy(&read, static_cast<const void*>(map), sizeof read);
    if (const char* fault = sim_map_fault(read)) SIM_FAIL(sim_text("%s: %s", what, fault));
    return read;
}

template <class Map>
static inline void tensor_copy(
    void* to, const Map* map, int column, int head, int position, int sample, unsigned long long* at, SIM_SITE) {
    const SimMap of = sim_read_map(map, "tensor_copy", file, line);
    const uint64_t bytes = 2 * of.box[0] * of.box[1] * of.box[2] * of.box[3];
    if (bytes > sim_self->shared_size) SIM_FAIL("tensor_copy: a box larger than shared memory");
    if (shared_address(to) % 128 != 0) SIM_FAIL("tensor_copy: its place is not a multiple of 128 bytes");
    SimBulk* bulk = sim_begin("tensor_copy", to, static_cast<unsigned>(bytes), at, file, line);
    bulk->map = of;
    bulk->first[0] = column, bulk->first[1] = head, bulk->first[2] = position, bulk->first[3] = sample;
    sim_send(bulk, to);
}

template <class Map>
static inline void prefetch_map(const Map* map, SIM_SITE) {
    sim_read_map(map, "prefetch_map", file, line);
}
