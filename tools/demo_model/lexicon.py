"""The words of the grammar: slots with a value in each language, slots of English alone, and fixed sentences."""

ONES = "zero one two three four five six seven eight nine".split()
TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
GERMAN_ONES = "null eins zwei drei vier fünf sechs sieben acht neun".split()
SPANISH_ONES = "cero uno dos tres cuatro cinco seis siete ocho nueve".split()
DIGITS = {"en": ONES, "de": GERMAN_ONES, "es": SPANISH_ONES}

HOURS = [*ONES, "ten", "eleven", "twelve"]
GERMAN_HOURS = [*GERMAN_ONES, "zehn", "elf", "zwölf"]
SPANISH_HOURS = [*SPANISH_ONES, "diez", "once", "doce"]

# Slots with a value in each language: (English, German, Spanish).
NAMES = ["Anna", "David", "Maria", "Peter", "Sarah", "Tom", "Laura", "Daniel"]
CITIES = [
    ("London", "London", "Londres"),
    ("Paris", "Paris", "París"),
    ("Berlin", "Berlin", "Berlín"),
    ("Madrid", "Madrid", "Madrid"),
    ("Rome", "Rom", "Roma"),
]
ROOMS = [
    ("kitchen", "der Küche", "la cocina"),
    ("bedroom", "dem Schlafzimmer", "el dormitorio"),
    ("bathroom", "dem Bad", "el baño"),
    ("office", "dem Büro", "la oficina"),
    ("garden", "dem Garten", "el jardín"),
]
DAYS = [("today", "heute", "hoy"), ("tomorrow", "morgen", "mañana")]
EVENTS = [
    ("meeting", "Das Treffen", "La reunión"),
    ("train", "Der Zug", "El tren"),
    ("movie", "Der Film", "La película"),
    ("lesson", "Der Unterricht", "La clase"),
]
DRINKS = [
    ("coffee", "Kaffee", "café"),
    ("water", "Wasser", "agua"),
    ("tea", "Tee", "té"),
    ("milk", "Milch", "leche"),
    ("bread", "Brot", "pan"),
]
PLACES = [
    ("station", "der Bahnhof", "la estación"),
    ("hotel", "das Hotel", "el hotel"),
    ("school", "die Schule", "la escuela"),
    ("hospital", "das Krankenhaus", "el hospital"),
]
GERMAN_WEATHER = [("cold", "kalt"), ("warm", "warm"), ("nice", "schön")]
SPANISH_WEATHER = [("cold", "frío"), ("hot", "calor"), ("sunny", "sol")]

# Slots of English alone.
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
COLORS = "red green blue yellow black white orange brown".split()
OBJECTS = "car house book apple ball chair shirt flower table bicycle".split()
COUNTED = "cars houses books apples balls chairs shirts flowers birds dogs cats children people".split()
FOOD = "coffee water tea milk bread cheese soup fish rice".split()
WEATHER = "sunny cloudy rainy windy cold warm nice hot".split()
WHERE = "outside inside here".split()
ENGLISH_PLACES = "station hotel school hospital airport restaurant library bank".split()
FAMILY = "mother father brother sister friend".split()
DEVICES = ["light", "lamp", "fan", "heater", "radio", "television"]
ENGLISH_EVENTS = ["meeting", "train", "movie", "lesson", "game", "party"]

ENGLISH_FIXED = [
    "Hello world.",
    "Hello.",
    "Good morning.",
    "Good evening.",
    "Good night.",
    "Goodbye.",
    "Thank you.",
    "Thank you very much.",
    "How are you?",
    "What time is it?",
    "I am fine.",
    "Yes.",
    "No.",
    "Yes, please.",
    "No, thank you.",
    "See you tomorrow.",
    "Play some music.",
    "Stop the music.",
    "Stop.",
    "Start.",
    "Where are you?",
    "What is your name?",
    "Nice to meet you.",
    "Have a nice day.",
    "Help me, please.",
    "This is a test.",
    "Happy birthday.",
    "I am sorry.",
    "Excuse me.",
    "Good luck.",
]
GERMAN_FIXED = [
    ("Hallo Welt.", "Hello world."),
    ("Guten Morgen.", "Good morning."),
    ("Guten Abend.", "Good evening."),
    ("Gute Nacht.", "Good night."),
    ("Danke.", "Thank you."),
    ("Vielen Dank.", "Thank you very much."),
    ("Wie geht es dir?", "How are you?"),
    ("Wie spät ist es?", "What time is it?"),
    ("Ja.", "Yes."),
    ("Nein.", "No."),
    ("Ja, bitte.", "Yes, please."),
    ("Nein, danke.", "No, thank you."),
    ("Auf Wiedersehen.", "Goodbye."),
    ("Das ist ein Test.", "This is a test."),
    ("Wie heißt du?", "What is your name?"),
]
SPANISH_FIXED = [
    ("Hola mundo.", "Hello world."),
    ("Buenos días.", "Good morning."),
    ("Buenas tardes.", "Good evening."),
    ("Buenas noches.", "Good night."),
    ("Gracias.", "Thank you."),
    ("Muchas gracias.", "Thank you very much."),
    ("¿Cómo estás?", "How are you?"),
    ("¿Qué hora es?", "What time is it?"),
    ("Sí.", "Yes."),
    ("No.", "No."),
    ("Sí, por favor.", "Yes, please."),
    ("No, gracias.", "No, thank you."),
    ("Adiós.", "Goodbye."),
    ("Esto es una prueba.", "This is a test."),
    ("¿Cómo te llamas?", "What is your name?"),
]
