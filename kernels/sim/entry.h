// Turns a kernel into something the scheduler can call, and spells its argument struct.
//
// One letter a field: f float*, h bf16*, i int* (capitals: const, an input); n int, s float.
#pragma once

namespace sim {

template <class T> struct Letter;
template <> struct Letter<float*> { static constexpr char value = 'f'; };
template <> struct Letter<__nv_bfloat16*> { static constexpr char value = 'h'; };
template <> struct Letter<int*> { static constexpr char value = 'i'; };
template <> struct Letter<const float*> { static constexpr char value = 'F'; };
template <> struct Letter<const __nv_bfloat16*> { static constexpr char value = 'H'; };
template <> struct Letter<const int*> { static constexpr char value = 'I'; };
template <> struct Letter<int> { static constexpr char value = 'n'; };
template <> struct Letter<float> { static constexpr char value = 's'; };

// Initialises a field of any type, and notes its letter.
struct AnyField {
    char* letter;
    template <class T>
    constexpr operator T() const {
        *letter = Letter<T>::value;
        return T();
    }
};

template <class Args, class, class... Fields>
struct Takes : std::false_type {};
template <class Args, class... Fields>
struct Takes<Args, std::void_t<decltype(Args{std::declval<Fields>()...})>, Fields...> : std::true_type {};

// The number of fields: the most that Args can be initialised with.
template <class Args, class... Fields>
constexpr size_t fields() {
    if constexpr (Takes<Args, void, Fields..., AnyField>::value) return fields<Args, Fields..., AnyField>();
    else return sizeof...(Fields);
}

template <class Args, size_t... I>
constexpr std::array<char, sizeof...(I) + 1> letters(std::index_sequence<I...>) {
    std::array<char, sizeof...(I) + 1> found = {};
    static_cast<void>(Args{AnyField{&found[I]}...});
    return found;
}

template <auto KERNEL> struct Entry;

template <class Args, void (*KERNEL)(Args)>
struct Entry<KERNEL> {
    static constexpr auto signature = letters<Args>(std::make_index_sequence<fields<Args>()>());
    static void run(const void* arguments, const void*) { KERNEL(*static_cast<const Args*>(arguments)); }
    static constexpr SimEntry entry = {signature.data(), sizeof(Args), 0, run};
};

// An entry that copies by maps of tensors.
template <class Args, class Maps, void (*KERNEL)(Args, Maps)>
struct Entry<KERNEL> {
    static constexpr auto signature = letters<Args>(std::make_index_sequence<fields<Args>()>());
    static void run(const void* arguments, const void* maps) {
        KERNEL(*static_cast<const Args*>(arguments), *static_cast<const Maps*>(maps));
    }
    static constexpr SimEntry entry = {signature.data(), sizeof(Args), sizeof(Maps), run};
};

}  // namespace sim
