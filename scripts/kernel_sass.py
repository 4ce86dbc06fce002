"""Machine code of NVIDIA GPUs: instructions with their control codes, basic blocks, and the path of the hot loop."""

import re
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

# `stall` is how many clocks later the warp may issue again; `sets` and `frees` are the scoreboards that an instruction
# holds until its result is there and until it has read its operands (7 for none); `waits` is a bit for each scoreboard
# that has to be clear.
Instruction = namedtuple("Instruction", "address predicate name text stall sets frees waits")
Block = namedtuple("Block", "instructions next")

LINE = re.compile(r"^\s+/\*([0-9a-f]{4,6})\*/\s+(?:\{\s*)?(.*?)\s*[;}]*\s*/\* 0x([0-9a-f]{16}) \*/$")
SECOND = re.compile(r"^\s+/\* 0x([0-9a-f]{16}) \*/$")
SPLIT = re.compile(r"^(@!?U?P\w+\s+)?([A-Z0-9_]+(?:\.\S+)?)\s*(.*)$")
ENDS = ("BRA", "EXIT", "RET", "BRX", "JMP", "CALL", "BPT")


def functions(cubin, nvdisasm):
    """Name -> instructions and labels of every kernel in a cubin."""
    command = [nvdisasm, "--print-code", "--print-instruction-encoding", str(cubin)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found, labels, waiting, pending = {}, {}, [], None
    for line in text.splitlines():
        if line.startswith(".text."):
            name = line[len(".text."):].rstrip(":")
            found[name], labels[name] = [], {}
            waiting = []
        elif re.match(r"^\.L_x_\d+:$", line):
            waiting.append(line[:-1])
        elif pending and (match := SECOND.match(line)):
            control = int(match.group(1), 16) >> 41
            address, text_of = pending
            predicate, opcode, rest = SPLIT.match(text_of).groups()
            found[name].append(
                Instruction(
                    address,
                    (predicate or "").strip(),
                    opcode,
                    rest,
                    control & 15,
                    control >> 5 & 7,
                    control >> 8 & 7,
                    control >> 11 & 63,
                )
            )
            pending = None
        elif match := LINE.match(line):
            pending = (int(match.group(1), 16), match.group(2))
            labels[name].update((label, pending[0]) for label in waiting)
            waiting = []
    return {name: (code, labels[name]) for name, code in found.items() if code}


def target(instruction, labels):
    """The address that a branch goes to, if it says so."""
    match = re.search(r"\(?(\.L_x_\d+)\)?$", instruction.text.replace("`", ""))
    return labels.get(match.group(1)) if match else None


def is_conditional(instruction):
    return bool(instruction.predicate) or bool(re.match(r"^!?U?P\w+\s*,", instruction.text)) or "DIV" in instruction.name


def blocks(code, labels):
    """Address -> basic block, with the addresses of those that may follow."""
    places = {instruction.address: index for index, instruction in enumerate(code)}
    starts = {code[0].address}
    for index, instruction in enumerate(code):
        if instruction.name.split(".")[0] in ENDS:
            if index + 1 < len(code):
                starts.add(code[index + 1].address)
            goal = target(instruction, labels)
            if goal in places:
                starts.add(goal)
    ordered = sorted(starts)
    result = {}
    for start, end in zip(ordered, ordered[1:] + [code[-1].address + 16]):
        own = code[places[start]:places[end] if end in places else len(code)]
        last = own[-1]
        kind = last.name.split(".")[0]
        following = []
        if kind in ("BRA", "JMP", "BRX"):
            goal = target(last, labels)
            following += [goal] if goal in places else []
            if is_conditional(last) and end in places:
                following.append(end)
        elif kind in ("EXIT", "RET", "BPT"):
            if last.predicate and end in places:
                following.append(end)
        elif end in places:
            following.append(end)
        result[start] = Block(own, following)
    return result


def back_edges(graph, entry):
    """Edges to a block that is on the way to it."""
    state, found, stack = {entry: 1}, [], [(entry, iter(graph[entry].next))]
    while stack:
        node, following = stack[-1]
        for successor in following:
            if state.get(successor) == 1:
                found.append((node, successor))
            elif successor not in state:
                state[successor] = 1
                stack.append((successor, iter(graph[successor].next)))
                break
        else:
            state[node] = 2
            stack.pop()
    return found


def loops(graph, entry):
    """Head -> the blocks of its loop, for every loop."""
    before = {}
    for node, block in graph.items():
        for successor in block.next:
            before.setdefault(successor, []).append(node)
    result = {}
    for tail, head in back_edges(graph, entry):
        body, todo = {head}, [tail]
        while todo:
            node = todo.pop()
            if node not in body:
                body.add(node)
                todo += before.get(node, [])
        result.setdefault(head, set()).update(body)
    return result


def is_product(instruction):
    return instruction.name.startswith(("HMMA", "HGMMA"))


def hot_path(code, labels):
    """The instructions of one turn of the innermost loop of products, or nothing where there is none: of all ways
    around it the one with the most products and copies of 16 bytes, and of these the shortest. Masks and dropout,
    which few tiles need, are left out by that. Of several loops, the shortest."""
    graph = blocks(code, labels)
    entry = code[0].address
    products = {node for node, block in graph.items() if any(map(is_product, block.instructions))}
    found = {head: body for head, body in loops(graph, entry).items() if body & products}
    inner = {
        head: body
        for head, body in found.items()
        if not any(other < body for other in found.values())
    }
    cut = set(back_edges(graph, entry))
    paths = [path for head, body in inner.items() if (path := best_path(graph, head, body, cut))]
    most = max((sum(map(is_product, path)) for path in paths), default=0)
    return min((path for path in paths if sum(map(is_product, path)) == most), key=len, default=[])


def best_path(graph, head, body, cut):
    sys.setrecursionlimit(100_000)
    known = {}

    def weight(node):
        own = graph[node].instructions
        copies = sum(instruction.name.startswith("LDGSTS") and ".128" in instruction.name for instruction in own)
        return sum(map(is_product, own)), copies, -len(own)

    def best(node):
        if node not in known:
            options = []
            for successor in graph[node].next:
                if successor == head:
                    options.append(((0, 0, 0), []))
                elif successor in body and (node, successor) not in cut and (rest := best(successor)):
                    options.append(rest)
            known[node] = None
            if options:
                total, path = max(options, key=lambda option: option[0])
                sums = tuple(a + b for a, b in zip(weight(node), total))
                known[node] = (sums, [node] + path)
        return known[node]

    found = best(head)
    return [instruction for node in found[1] for instruction in graph[node].instructions] if found else []


def cubins(image, cuobjdump, folder):
    """Architecture -> cubin of a fat binary, unpacked into `folder`."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        subprocess.run(
            [cuobjdump, "--extract-elf", "all", str(Path(image).resolve())], check=True, cwd=own, capture_output=True
        )
        found = {}
        for path in Path(own).glob("*.cubin"):
            architecture = re.search(r"(sm_\d+a?)\.cubin$", path.name).group(1)
            kept = Path(folder) / f"{Path(image).stem}.{architecture}.cubin"
            found[architecture] = path.rename(kept)
        return found
