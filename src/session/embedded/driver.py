# Runs what comes by standard input as a program of its own, and says what its last line is
# worth, between two marks that nobody else knows.
import ast, linecache, sys, types

mark, most = sys.argv[1], int(sys.argv[2])
text = sys.stdin.buffer.read()
sys.argv = ["<code>"]
main = types.ModuleType("__main__")
main.__builtins__ = __builtins__
sys.modules["__main__"] = main
lines = text.decode("utf-8", "replace").splitlines(True)
linecache.cache["<code>"] = (len(text), None, lines, "<code>")
value = None
try:
    tree = ast.parse(text, "<code>")
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<code>", "exec"), main.__dict__)
    if last is not None:
        last = ast.Expression(last.value)
        value = eval(compile(last, "<code>", "eval"), main.__dict__)
    value = None if value is None else repr(value)
except SystemExit:
    raise
except BaseException as error:
    trace = error.__traceback__
    # Not the frames of this one, nor of the parser.
    while trace is not None and trace.tb_frame.f_code.co_filename != "<code>":
        trace = trace.tb_next
    sys.excepthook(type(error), error, trace)
    sys.exit(1)
if value is not None:
    cut = "+" if len(value) > most else "="
    sys.stdout.flush()
    with open(1, "wb", closefd=False) as out:
        out.write((mark + cut + value[:most] + mark).encode("utf-8", "replace"))
